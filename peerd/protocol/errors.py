"""How a delta stream fails. Each error says which gRPC status ends the stream."""


class ProtocolError(Exception):
    """The stream must end; `code` is the gRPC status and the text its message."""

    code = 13  # INTERNAL


class MalformedMessageError(ProtocolError):
    """Bytes that are not the message they should be."""

    code = 3  # INVALID_ARGUMENT


class UnexpectedRequestError(ProtocolError):
    """A request that the state of its subscription does not allow."""

    code = 9  # FAILED_PRECONDITION


class LimitExceededError(ProtocolError):
    """The client asked for more than one stream may have."""

    code = 8  # RESOURCE_EXHAUSTED


class BehindError(ProtocolError):
    """The client is behind what the change log holds; it comes back with its versions (decision D4)."""

    code = 14  # UNAVAILABLE


class OverdueError(ProtocolError):
    """No ACK, or no progress of a write, for too long (decision D8)."""

    code = 10  # ABORTED: ztunnel backs off on it, and does not on DEADLINE_EXCEEDED (wire-contract §1.4)
