"""The state directory: checksummed journals that survive a restart."""
