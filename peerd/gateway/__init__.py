"""The companion of an east-west gateway's Envoy: its identity, its files, its end."""
