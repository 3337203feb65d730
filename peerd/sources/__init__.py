"""Where objects come from: a watched directory of manifests, or the API server. Both yield the same stream."""
