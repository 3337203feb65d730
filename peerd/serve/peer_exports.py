"""What this cluster exports, as each kind of peer may see it: by its segment (D25) and its network (D31)."""

import asyncio
from collections.abc import Iterable

import msgspec

from peerd.encode.address import encode_address
from peerd.encode.peering import PEER_INFO_NAME, encode_federated_service, encode_peer_info, encode_segment
from peerd.limits import PEER_FRAME_BYTES
from peerd.model.federation import FederatedService, FederationScope, PeerInfo, Segment
from peerd.model.resource import Resource, ResourceChange
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.workload import Workload
from peerd.protocol.rules import TypeRules
from peerd.resources.store import ResourceStore
from peerd.serve.peer_resume import PeerResume

_TYPES = (PEER_INFO, FEDERATED_SERVICE, SEGMENT, ADDRESS)
_SLICE = 100  # workloads encoded between two chances for others: about 3 ms


class View:
    """The exports as the streams of some peers see them."""

    def __init__(self, epoch: str, lineage: str) -> None:
        self.store = ResourceStore(_TYPES, epoch, response_bytes=PEER_FRAME_BYTES.value)
        resume = PeerResume(self.store, lineage)
        self.rules = {type_url: TypeRules(resume=resume) for type_url in _TYPES}

    def commit(self, changes: Iterable[ResourceChange] = ()) -> None:
        """Make *changes*, and all that is staged, what streams see."""
        self.store.commit(changes)
        self.store.close_window()


class PeerExports:
    """Four views: peers of our segment or of others, on our network or on others.

    Workloads are for peers on our network. Most clusters have none such, so they are encoded once the first
    one comes (`encoded`).
    """

    def __init__(self, epoch: str, lineage: str) -> None:
        # By whether the segment is ours, and whether the network is.
        self._views = {(s, n): View(epoch, lineage) for s in (False, True) for n in (False, True)}
        # By whether the segment is ours.
        self._workloads: dict[bool, dict[str, Workload]] = {False: {}, True: {}}
        self._encoding: asyncio.Task[None] | None = None

    def view(self, *, same_segment: bool, same_network: bool) -> View:
        """What a peer is served."""
        return self._views[same_segment, same_network]

    def commit(self, exports: Iterable[tuple[str, FederatedService | None]]) -> None:
        """Announce services, or with None their end."""
        everybody: list[ResourceChange] = []
        others: list[ResourceChange] = []
        for name, service in exports:
            resource = encode_federated_service(service) if service is not None else None
            everybody.append(ResourceChange(FEDERATED_SERVICE, name, resource))
            visible = service is not None and service.scope is FederationScope.GLOBAL
            others.append(ResourceChange(FEDERATED_SERVICE, name, resource if visible else None))
        for (same_segment, _), view in self._views.items():
            view.commit(everybody if same_segment else others)
        self._level()

    def commit_info(self, before: PeerInfo | None, info: PeerInfo) -> None:
        """What this cluster says of itself, now and *before*."""
        segment = Segment(info.segment or "default", info.segment_domain)
        changes = [
            ResourceChange(PEER_INFO, PEER_INFO_NAME, encode_peer_info(info)),
            ResourceChange(SEGMENT, segment.name, encode_segment(segment)),
        ]
        if before is not None and before.segment != info.segment:
            changes.append(ResourceChange(SEGMENT, before.segment or "default", None))
        for view in self._views.values():
            view.commit(changes)
        self._level()

    def commit_workloads(self, changes: Iterable[tuple[str, Workload | None]], *, same_segment: bool) -> None:
        """Announce endpoints on our network by uid, or with None their end: to our own segment, or others."""
        known = self._workloads[same_segment]
        changed: list[str] = []
        for uid, workload in changes:
            if workload is None:
                known.pop(uid, None)
            else:
                known[uid] = workload
            changed.append(uid)
        if self._encoding is not None and changed:
            self._views[same_segment, True].commit(self._encoded(changed, same_segment=same_segment))
            self._level()

    async def encoded(self) -> None:
        """Wait until the views of peers on our network hold their workloads; call it before showing one."""
        if self._encoding is None:
            self._encoding = asyncio.ensure_future(self._encode())
        await asyncio.shield(self._encoding)

    def close(self) -> None:
        """Encode nothing more."""
        if self._encoding is not None:
            self._encoding.cancel()

    async def _encode(self) -> None:
        for same_segment, known in self._workloads.items():
            view = self._views[same_segment, True]
            uids = list(known)
            for start in range(0, len(uids), _SLICE):
                view.store.stage(self._encoded(uids[start : start + _SLICE], same_segment=same_segment))
                await asyncio.sleep(0)
            view.commit()
            self._level()

    def _level(self) -> None:
        """Views count alike: a peer that is shown another one sees no revision again (decision D24)."""
        newest = max(view.store.head for view in self._views.values())
        for view in self._views.values():
            view.store.advance(newest)
            view.store.close_window()

    def _encoded(self, uids: Iterable[str], *, same_segment: bool) -> list[ResourceChange]:
        """What is known of *uids* now, so that it is never older than what was committed meanwhile."""
        known = self._workloads[same_segment]
        return [
            ResourceChange(ADDRESS, uid, _resource(found) if (found := known.get(uid)) is not None else None)
            for uid in uids
        ]


def _resource(workload: Workload) -> Resource:
    """As ztunnels are given it, but nobody asks peers by alias or group."""
    return msgspec.structs.replace(encode_address(workload), aliases=(), groups=())
