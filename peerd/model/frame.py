"""What a stream sends: one whole DeltaDiscoveryResponse."""

from peerd.model.record import Record


class Frame(Record, frozen=True):
    """One response in its final bytes. Streams that go the same way share the same object.

    `revision` is where a client is once it has applied this frame *and* those of the same answer before it
    (an answer past the message limit comes in several). `resources` and `removals` count what it holds.
    """

    nonce: str
    message: bytes
    revision: int
    resources: int
    removals: int
