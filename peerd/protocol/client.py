"""The asking side of a delta stream, without IO: what a peer's importer, a demo's ztunnel and tests use.

Bytes go in by `receive`, bytes to send come out of every method; who calls decides when. A response that was
received must be answered with `accept` or `reject`, in order, before what it held counts as held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_response
from peerd.protocol.errors import UnexpectedRequestError

WILDCARD = "*"


@dataclass(slots=True)
class _Subscription:
    """What a client holds of one type."""

    versions: dict[str, str] = field(default_factory=dict)
    answered: bool = False  # a response of this type was accepted or rejected on this stream
    accepted: bool = False  # ... was accepted whole: ztunnel counts the type as ready from here


class DeltaClient:
    """One client over its whole life: streams come and go, what it holds stays.

    `types` are the type URLs in the order of their first requests. `on_demand` are those that begin without
    the wildcard (`*` subscribed and unsubscribed at once, wire-contract §1.5).
    """

    def __init__(
        self,
        types: Iterable[str],
        node: Node,
        held: Mapping[str, Mapping[str, str]] | None = None,
        *,
        on_demand: Iterable[str] = (),
    ) -> None:
        self._node = node
        self._on_demand = frozenset(on_demand)
        self._held = {url: _Subscription(dict((held or {}).get(url, {}))) for url in types}

    def versions(self, type_url: str) -> Mapping[str, str]:
        """Name -> version of what is held. Raises KeyError for a type this client does not ask for."""
        return self._held[type_url].versions

    def answered(self, type_url: str) -> bool:
        """Whether a response of the type was answered on this stream."""
        return self._held[type_url].answered

    def ready(self, type_url: str) -> bool:
        """Whether a response of the type was accepted whole on this stream: its first sync is done."""
        return self._held[type_url].accepted

    def start(self) -> list[bytes]:
        """The first requests of a new stream, one a type, each with the node and what is held."""
        requests = []
        for url, held in self._held.items():
            held.answered = held.accepted = False
            names = (WILDCARD,) if url in self._on_demand else ()
            requests.append(
                delta_request(
                    url, subscribe=names, unsubscribe=names, versions=held.versions, node=self._node
                )
            )
        return requests

    def subscribe(self, type_url: str, names: Iterable[str]) -> bytes:
        """Ask for *names*, which may be aliases."""
        return delta_request(type_url, subscribe=names)

    def unsubscribe(self, type_url: str, names: Iterable[str]) -> bytes:
        """Ask for *names* no longer; what is held of them is forgotten."""
        gone = tuple(names)
        for name in gone:
            self._held[type_url].versions.pop(name, None)
        return delta_request(type_url, unsubscribe=gone)

    def receive(self, message: bytes) -> DeltaResponse:
        """Decode a response.

        Raises:
            MalformedMessageError: the bytes are no response.
        """
        return parse_delta_response(message)

    def accept(self, response: DeltaResponse) -> bytes:
        """Take note of all that *response* holds and return its ACK.

        Raises:
            UnexpectedRequestError: a type this client did not ask for (ACK it with `acknowledge` instead).
        """
        held = self._of(response)
        self._apply(held, response, {})
        held.accepted = True
        return self.acknowledge(response)

    def reject(self, response: DeltaResponse, reasons: Mapping[str, str]) -> bytes:
        """Take note of all but the names in *reasons* and return the NACK (wire-contract §1.4: partial).

        Raises:
            UnexpectedRequestError: as `accept`.
        """
        self._apply(self._of(response), response, reasons)
        text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return delta_request(response.type_url, nonce=response.nonce, error=text)

    @staticmethod
    def acknowledge(response: DeltaResponse) -> bytes:
        """An ACK and nothing else, as ztunnel answers a type it does not know."""
        return delta_request(response.type_url, nonce=response.nonce)

    def _of(self, response: DeltaResponse) -> _Subscription:
        held = self._held.get(response.type_url)
        if held is None:
            raise UnexpectedRequestError(f"a response of type {response.type_url!r} that was never asked for")
        return held

    @staticmethod
    def _apply(held: _Subscription, response: DeltaResponse, rejected: Mapping[str, str]) -> None:
        for resource in response.resources:
            if resource.name in rejected:
                held.versions.pop(resource.name, None)
            else:
                held.versions[resource.name] = resource.version
        for name in response.removed:
            held.versions.pop(name, None)
        held.answered = True
