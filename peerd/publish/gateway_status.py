"""What an istio-remote Gateway's status says of its peer: pure, from what is known (decision D33).

docs/status.md has the table from states to conditions; a test holds it against this file.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.gateway import Gateway, GatewayClass
from peerd.model.record import Record
from peerd.protocol.peer_state import PeerState
from peerd.publish.conditions import Condition, no, problem, status_tree, yes

ACCEPTED = "Accepted"
PROGRAMMED = "Programmed"
CONNECTED = "gloo.solo.io/PeerConnected"
SUCCEEDED = "gloo.solo.io/PeeringSucceeded"
DATA_PLANE = "gloo.solo.io/PeerDataPlaneProgrammed"

REMOTE_CLASS = "istio-remote"
REMOTE_CONTROLLER = "istio.io/unmanaged-gateway"
EAST_WEST_CONTROLLER = "peerd.io/eastwest-controller"
_STAYS = "what was imported stays"


class Path(Enum):
    """How the peer's data plane is found: reason of the condition, and whether it holds."""

    UNKNOWN = ("GatewayUnknown", "False")  # neither the Gateway nor the peer names an HBONE address
    SAME_NETWORK = ("SameNetwork", "True")  # Pod to Pod, no gateway is needed
    PROBING = ("Probing", "Unknown")  # not asked yet
    REACHED = ("Reached", "True")  # the expected identity answered on 15008
    UNREACHABLE = ("Unreachable", "False")  # nobody, or somebody else, answered


class PeerFacts(Record, frozen=True):
    """What the dialler knows. `synced`: what was imported is whole and held; `cluster` may be empty."""

    state: PeerState
    synced: bool = False
    error: str = ""
    cluster: str = ""


class PathFacts(Record, frozen=True):
    """What is known of the way to the peer's data plane."""

    path: Path = Path.UNKNOWN
    message: str = ""


CONNECTION: dict[PeerState, tuple[str, str]] = {
    PeerState.CONNECTING: ("False", "Connecting"),  # Unreachable, once an attempt has failed
    PeerState.SYNCING: ("True", "Connected"),
    PeerState.LIVE: ("True", "Connected"),
    PeerState.STALE: ("False", "Stale"),
    PeerState.EXPIRED: ("False", "Expired"),
    PeerState.REFUSED: ("False", "Refused"),
}
"""Status and reason of PeerConnected. A Gateway that leads to this very cluster has no such condition."""

SYNC: dict[PeerState, tuple[str, str]] = {
    PeerState.CONNECTING: ("Kept", "NotSynced"),
    PeerState.SYNCING: ("Resyncing", "Syncing"),
    PeerState.LIVE: ("Synced", "Syncing"),
    PeerState.STALE: ("Stale", "NotSynced"),
    PeerState.EXPIRED: ("", "Expired"),
    PeerState.REFUSED: ("Kept", "Refused"),
}
"""Reason of PeeringSucceeded where what was imported is held (True), and where it is not (False)."""


def remote_conditions(
    gateway: Gateway,
    peer: PeerFacts | None,
    path: PathFacts,
    diagnostics: Sequence[Diagnostic] = (),
    *,
    peering: bool = True,
) -> tuple[Condition, ...]:
    """All conditions of an istio-remote Gateway.

    *peer* is None where it is not dialled: *diagnostics* say why. Without *peering* nobody is.
    """
    errors = [each for each in diagnostics if each.severity is Severity.ERROR]
    found = [_accepted(peer, errors, peering=peering), _programmed(gateway), *problem(diagnostics)]
    if peer is not None and peer.state is not PeerState.SELF:
        found += [_connected(peer), _succeeded(peer), _data_plane(path)]
    return tuple(found)


def remote_status(gateway: Gateway, conditions: Sequence[Condition], *, beside: bool) -> dict[str, Any]:
    """The status to apply. Beside istiod only `gloo.solo.io/*` is ours: istiod writes the rest (D33)."""
    generation = gateway.metadata.generation
    if beside:
        return {"conditions": status_tree((c for c in conditions if "gloo.solo.io/" in c.type), generation)}
    addresses = [
        {"type": each.type or "IPAddress", "value": each.value}
        for each in gateway.spec.addresses
        if each.value
    ]
    return {"addresses": addresses, "conditions": status_tree(conditions, generation)}


def class_conditions(found: GatewayClass, controllers: frozenset[str]) -> tuple[Condition, ...]:
    """Accepted, for classes that name one of *controllers*; others are somebody else's to accept."""
    if found.spec.controller_name not in controllers:
        return ()
    return (yes(ACCEPTED, "Accepted", "peerd serves Gateways of this class"),)


def _accepted(peer: PeerFacts | None, errors: Sequence[Diagnostic], *, peering: bool) -> Condition:
    if peer is not None and peer.state is PeerState.SELF:
        return yes(ACCEPTED, "Self", "it describes this very cluster and is not dialled")
    if peer is None and not peering:
        return yes(ACCEPTED, "PeeringOff", "peerd runs with --peering off: nobody is dialled")
    if peer is None:
        words = errors[0] if errors else None
        return no(
            ACCEPTED, "Invalid", f"{words.field}: {words.message}; {words.fix}" if words else "is incomplete"
        )
    return yes(ACCEPTED, "Accepted", "the peer is dialled")


def _programmed(gateway: Gateway) -> Condition:
    if any(each.value for each in gateway.spec.addresses):
        return yes(PROGRAMMED, "Programmed", "its addresses are known")
    return no(PROGRAMMED, "AddressNotAssigned", "add the address of the peer's gateway to spec.addresses")


def _connected(peer: PeerFacts) -> Condition:
    status, reason = CONNECTION[peer.state]
    if status == "True":
        return yes(CONNECTED, reason, f"connected to cluster {peer.cluster}" if peer.cluster else "connected")
    if peer.state is PeerState.CONNECTING and peer.error:
        reason = "Unreachable"
    words = {
        PeerState.CONNECTING: "dialling",
        PeerState.STALE: f"not heard of for 45 seconds; {_STAYS} and counts one tenth beside fresh capacity",
        PeerState.EXPIRED: "not heard of for as long as the Gateway allows",
    }.get(peer.state, "")
    return no(CONNECTED, reason, "; ".join(filter(None, (words, peer.error))))


def _succeeded(peer: PeerFacts) -> Condition:
    held, missing = SYNC[peer.state]
    if peer.synced and held:
        return yes(SUCCEEDED, held, "in sync" if peer.state is PeerState.LIVE else _STAYS)
    words = "what was imported was withdrawn" if peer.state is PeerState.EXPIRED else "never in sync so far"
    return no(SUCCEEDED, missing, words)


def _data_plane(path: PathFacts) -> Condition:
    reason, status = path.path.value
    return Condition(DATA_PLANE, status, reason, path.message)
