"""Resume by digest and the sync marker, as the delta machine's hook (api/peering/v1/README.md)."""

from collections.abc import Sequence

from peerd.model.wire import read_map_entry
from peerd.protocol.peer_wire import DIGEST_NAME, Sync, SyncState, encode_sync, parse_offer
from peerd.protocol.rules import Offer
from peerd.resources.store import ResourceStore


class PeerResume:
    """`Resume` (protocol/rules.py) over a store of exports."""

    def __init__(self, store: ResourceStore, lineage: str) -> None:
        self._store = store
        self._lineage = lineage

    def judge(self, type_url: str, versions: Sequence[bytes]) -> Offer:
        """An offer is a map with the one key `@digest`."""
        if len(versions) != 1:
            return Offer.NONE
        try:
            name, value = read_map_entry(versions[0])
        except ValueError:
            return Offer.NONE  # the machine compares it, and says what is wrong with it
        if name != DIGEST_NAME:
            return Offer.NONE
        ours = (self._lineage, self._store.collection(type_url).digest())
        return Offer.EQUAL if parse_offer(value) == ours else Offer.WANTED

    def notice(self, type_url: str, offer: Offer) -> bytes:
        """`@sync`, over what is published now."""
        if offer is Offer.WANTED:
            return encode_sync(Sync(SyncState.VERSIONS_WANTED))
        return encode_sync(Sync(SyncState.COMPLETE, self._store.collection(type_url).digest()))
