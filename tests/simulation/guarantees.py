"""The names of the guarantees of docs/guarantees.md, as violations give them."""

ORIGIN = "Origin"
COMPLETE = "Complete"
NO_PHANTOM_DELETE = "No phantom delete"
MONOTONIC = "Monotonic"
BOUNDED_STALENESS = "Bounded staleness"
ISOLATION = "Isolation"
RESTART = "Restart changes nothing"
POLICIES_FIRST = "Policies first"
STATUS = "Status"
NOTHING_TWICE = "Nothing twice"
REFUSAL = "Refusal"
LIVENESS = "Liveness"
NO_WORK = "No work for nothing"
LIMITS = "Limits"
KEPT = "Kept"
NO_ERRORS = "No errors of our own"

STALE_AFTER = 45.0
SLACK = 5.0  # of the once-a-second looks, and of a message under way
HEARTBEAT_LAG = 15.0  # every second heartbeat at worst is written
JOURNAL_LAG = HEARTBEAT_LAG + 5.0  # and late, as imports are
