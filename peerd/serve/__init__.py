"""What answers callers: discovery, certificates, who may ask for what."""
