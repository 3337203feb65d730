"""From bytes that a peer sent, now or before a restart, to records that may be believed."""

from peerd.encode.address import decode_address
from peerd.encode.frame import DecodeError
from peerd.encode.peering import (
    PEER_INFO_NAME,
    decode_federated_service,
    decode_peer_info,
    decode_segment,
)
from peerd.model.federation import PeerInfo, RemotePeer
from peerd.model.peer_identity import PeerRefusedError
from peerd.model.record import Record
from peerd.model.types import ADDRESS, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.workload import Workload
from peerd.peering.holdings import Entry, Holdings, Imported
from peerd.peering.keeper import StoredPeer
from peerd.peering.validation import (
    LocalCluster,
    PeerIsSelfError,
    check_info,
    fault,
    workload_fault,
)


class Judged(Record, frozen=True):
    """What a resource is, or why it is refused. A Segment is no record of its own: PeerInfo says the same."""

    record: Imported | None = None
    fault: str = ""


def judge(type_url: str, name: str, payload: bytes, info: PeerInfo, local: LocalCluster) -> Judged:
    """A resource of a peer that is *info*, PeerInfo itself apart."""
    try:
        if type_url == FEDERATED_SERVICE:
            service = decode_federated_service(payload)
            return Judged(service, fault(name, service, info, local))
        if type_url == ADDRESS:
            workload = decode_address(payload)
            if not isinstance(workload, Workload):
                return Judged(fault="an Address between peers is a Workload, never a Service")
            return Judged(workload, workload_fault(name, workload, info, local))
        if type_url == SEGMENT:
            return Judged(fault=_segment_fault(name, payload, info))
    except DecodeError as error:
        return Judged(fault=str(error))
    return Judged(fault=f"resources of type {type_url:.120} are not imported")


def restored(
    stored: StoredPeer, local: LocalCluster, remote: RemotePeer | None = None
) -> tuple[PeerInfo | None, Holdings]:
    """What of a kept peer may still be believed, by a Gateway that may have changed since.

    What cannot be read was written by a version that understood more: the peer sends it again, as it does
    with all that is left out here.
    """
    holdings = Holdings()
    info = _restored_info(stored, local, remote)
    if info is None:
        return None, holdings
    for each in stored.resources:
        if each.type_url == PEER_INFO:
            judged = Judged(fault="" if each.name == PEER_INFO_NAME else "it is none")
        else:
            judged = judge(each.type_url, each.name, each.payload, info, local)
        if not judged.fault:
            entry = Entry(each.version, len(each.payload) + len(each.version), judged.record)
            holdings.enter(each.type_url, each.name, entry)
    return info, holdings


def _restored_info(stored: StoredPeer, local: LocalCluster, remote: RemotePeer | None) -> PeerInfo | None:
    for each in stored.resources:
        if each.type_url == PEER_INFO and each.name == PEER_INFO_NAME:
            try:
                info = decode_peer_info(each.payload)
                if remote is not None:
                    check_info(remote, info, local)
            except (DecodeError, PeerRefusedError, PeerIsSelfError):
                return None
            return info
    return None


def _segment_fault(name: str, payload: bytes, info: PeerInfo) -> str:
    """Why a Segment is not taken. Raises DecodeError."""
    segment = decode_segment(payload)
    if name != segment.name:
        return f"the resource is not called {segment.name!r:.80} as its content is"
    if (segment.name, segment.domain) != (info.segment or "default", info.segment_domain):
        return (
            f"segment {segment.name!r:.80} with domain {segment.domain!r:.260} is not the one PeerInfo names"
        )
    return ""
