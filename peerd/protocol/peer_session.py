"""One connection to a peer, from the dialling side: what to ask, what came, what follows."""

from collections.abc import Generator, Iterable, Mapping

import msgspec

from peerd.model.record import Record
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.protocol.envelope import Node, delta_response_steps
from peerd.protocol.errors import MalformedMessageError
from peerd.protocol.peer_subscription import Delivery, PeerSubscription, Phase, Settled
from peerd.protocol.peer_wire import Hello, PeerProtocolError

# PeerInfo by itself: it says who is talking, before anything else is asked for.
_REST = (FEDERATED_SERVICE, SEGMENT, ADDRESS)
_OPTIONAL = {SEGMENT, ADDRESS}  # the first servers may not know them


class Held(Record, frozen=True):
    """What is held of a peer when a connection opens: the lineage, and per type the versions by name."""

    lineage: str = ""
    versions: Mapping[str, Mapping[str, str]] = {}


class PeerSession:
    """The data stream. A delivery must be settled before the next message is read."""

    def __init__(self, hello: Hello, namespace: str, held: Held) -> None:
        self._hello = hello
        self._namespace = namespace
        self._held = held
        self._types = {PEER_INFO: self._subscription(PEER_INFO)}
        self.received_bytes = 0
        self.sent_bytes = 0
        self.epoch = ""

    @property
    def in_sync(self) -> bool:
        """Whether every type is in sync."""
        complete = [each.phase is Phase.SYNCED for each in self._types.values()]
        return len(complete) > 1 and all(complete)

    def open(self) -> list[bytes]:
        """The first request, for PeerInfo; those for the other types follow when it is in sync."""
        requests = [self._types[PEER_INFO].open(self._node())]
        self._count(requests)
        return requests

    def receive(self, message: bytes) -> Generator[None, None, Delivery]:
        """Read one response, in slices; to be run to its end, which gives the delivery.

        Raises:
            PeerProtocolError: not a response, of a type that was not asked for, or itself malformed.
        """
        self.received_bytes += len(message)
        try:
            response = yield from delta_response_steps(message)
        except MalformedMessageError as error:
            raise PeerProtocolError(str(error)) from None
        subscription = self._types.get(response.type_url)
        if subscription is None:
            raise PeerProtocolError(
                f"a response of type {response.type_url[:120]!r}, which was not asked for"
            )
        self.epoch = response.system_version.partition("/")[0]
        return subscription.read(response)

    def settle(self, delivery: Delivery, refused: Mapping[str, str]) -> Settled:
        """Answer a delivery; *refused* maps names of resources that were not taken to reasons.

        Raises:
            PeerProtocolError: the sync does not add up.
        """
        settled = self._types[delivery.type_url].settle(delivery, refused)
        if settled.synced and len(self._types) == 1:
            rest = {type_url: self._subscription(type_url) for type_url in _REST}
            self._types |= rest
            self._held = Held()  # they have what they need
            opening = tuple(subscription.open() for subscription in rest.values())
            settled = msgspec.structs.replace(settled, requests=(*settled.requests, *opening))
        self._count(settled.requests)
        return settled

    def _subscription(self, type_url: str) -> PeerSubscription:
        versions = self._held.versions.get(type_url, {})
        return PeerSubscription(type_url, versions, self._held.lineage, optional=type_url in _OPTIONAL)

    def _count(self, requests: Iterable[bytes]) -> None:
        self.sent_bytes += sum(map(len, requests))

    def _node(self) -> Node:
        # The four parts of Envoy's node ids; no address, for nobody dials back. The rest is in the Hello.
        name = f"{self._hello.instance}.{self._namespace}"
        return Node(f"peerd~0.0.0.0~{name}~{self._hello.cluster}")
