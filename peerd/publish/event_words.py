"""Which transitions of conditions are told as Events, under which word; docs/status.md lists them."""

from typing import NamedTuple

from peerd.publish.events import NORMAL, WARNING
from peerd.publish.notice import Transition


class Word(NamedTuple):
    """`kind` and `reason` of the Event; with `only_from`, only after that status of the same condition."""

    kind: str
    reason: str
    only_from: str = ""


WORDS: dict[tuple[str, str], Word] = {
    ("gloo.solo.io/PeerConnected", "Connected"): Word(NORMAL, "PeerConnected"),
    ("gloo.solo.io/PeerConnected", "Connecting"): Word(WARNING, "PeerLost", "True"),
    ("gloo.solo.io/PeerConnected", "Unreachable"): Word(WARNING, "PeerUnreachable"),
    ("gloo.solo.io/PeerConnected", "Stale"): Word(WARNING, "PeerStale"),
    ("gloo.solo.io/PeerConnected", "Expired"): Word(WARNING, "PeerExpired"),
    ("gloo.solo.io/PeerConnected", "Refused"): Word(WARNING, "PeerRefused"),
    ("gloo.solo.io/PeeringSucceeded", "Synced"): Word(NORMAL, "PeerSynced"),
    ("gloo.solo.io/PeerDataPlaneProgrammed", "Reached"): Word(NORMAL, "PeerGatewayReached"),
    ("gloo.solo.io/PeerDataPlaneProgrammed", "Unreachable"): Word(WARNING, "PeerGatewayUnreachable"),
    ("Accepted", "Self"): Word(NORMAL, "PeerIsSelf"),
    ("Accepted", "Invalid"): Word(WARNING, "GatewayInvalid"),
    ("Programmed", "AddressNotAssigned"): Word(WARNING, "GatewayWithoutAddress"),
    ("peering.peerd.io/Problem", "NotServed"): Word(WARNING, "NotServed"),
    ("peering.peerd.io/Problem", "NotAsMeant"): Word(WARNING, "NotAsMeant"),
    ("peering.peerd.io/Federated", "Exported"): Word(NORMAL, "Federated"),
    ("peering.peerd.io/Federated", "OnlyHere"): Word(NORMAL, "OnlyHere", "True"),
    ("peering.peerd.io/Federated", "NotExported"): Word(NORMAL, "NotExported", "True"),
    ("peering.peerd.io/Reachable", "OutsideMesh"): Word(WARNING, "PodsOutsideMesh"),
    ("peering.peerd.io/Reachable", "InMesh"): Word(NORMAL, "PodsInMesh", "False"),
    ("peering.peerd.io/Takeover", "Refused"): Word(WARNING, "TakeoverRefused"),
    ("Conflict", "PortConflict"): Word(WARNING, "PortConflict"),
    ("Conflict", "TrafficDistributionConflict"): Word(WARNING, "TrafficDistributionConflict"),
    ("Conflict", "LabelsConflict"): Word(WARNING, "LabelsConflict"),
    ("Conflict", "NoConflicts"): Word(NORMAL, "ConflictResolved", "True"),
}
"""By type and reason of the condition."""

OBJECT_WORDS = {
    "reverted": "GeneratedObjectReverted",
    "taken": "GeneratedNameTaken",
    "refused": "WriteRefused",
}
"""By notice of the writer (peerd/publish/writer.py), on the object it is about."""


def word_of(transition: Transition) -> Word | None:
    """What to tell of *transition*, None for nothing."""
    word = WORDS.get((transition.after["type"], transition.after["reason"]))
    if word is None:
        return None
    before = "" if transition.before is None else transition.before["status"]
    return word if word.only_from in {"", before} else None
