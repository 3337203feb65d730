"""The resource store: a name, its version and final bytes, a change log with cursors, shared frames."""
