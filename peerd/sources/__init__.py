"""Where objects come from: a watched directory or the API server, both as the same stream."""
