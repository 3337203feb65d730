"""`peerd demo`: two whole clusters on one machine, each step asserted from bytes that a client received."""
