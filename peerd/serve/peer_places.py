"""Where our Gateways' peers are, as they told us over connections that we dialled (decisions D25, D31)."""

from collections.abc import Callable

from peerd.model.federation import PeerInfo
from peerd.model.kube.meta import ObjectKey


class PeerPlaces:
    """What a stream that we serve says of its segment and its network is held against this.

    A Hello is its sender's word alone; a PeerInfo came from the address and identity that a Gateway names.
    """

    def __init__(self) -> None:
        self._known: dict[ObjectKey, tuple[str, str, str]] = {}
        self._watch: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* after each change; one watcher."""
        self._watch = changed

    def put(self, gateway: ObjectKey, info: PeerInfo | None) -> None:
        """The PeerInfo of a Gateway's peer, None where there is none any more."""
        before = self._known.get(gateway)
        after = (info.cluster, info.segment, info.network) if info is not None else None
        if after == before:
            return
        if after is None:
            del self._known[gateway]
        else:
            self._known[gateway] = after
        self._watch()

    def in_segment(self, cluster: str, segment: str) -> bool:
        """Whether nothing known contradicts that *cluster* is in *segment*."""
        return all(known == segment for each, known, _ in self._known.values() if each == cluster)

    def on_network(self, cluster: str, network: str) -> bool:
        """Whether nothing known contradicts that *cluster* is on *network*."""
        return all(known == network for each, _, known in self._known.values() if each == cluster)
