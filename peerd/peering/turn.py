"""How much of one peer is taken in, or taken back, before others have their turn."""

TURN = 32
"""Resources judged in one go, in less than a millisecond, and that may wait for derivation.

A peer with thousands of changes has no more than these in any batch, so that one with a single change waits
for some milliseconds of another's work and not for seconds of it (`make bench NAME=hostile`).
"""

WITHDRAWN = TURN // 2
"""Resources taken back in one go: deriving that one is gone takes about twice as long as judging it."""
