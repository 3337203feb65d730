"""From a peer's state to conditions: docs/status.md has the table, and it is true."""

import re
from pathlib import Path as FilePath

import pytest

from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.gateway import Gateway, GatewayAddressField, GatewayClass, GatewayClassSpec, GatewaySpec
from peerd.model.kube.meta import ObjectMeta
from peerd.protocol.peer_state import PeerState
from peerd.publish import gateway_status as gw
from peerd.publish.conditions import PROBLEM, shortened, status_tree, yes
from peerd.publish.gateway_status import Path, PathFacts, PeerFacts

PAGE = (FilePath(__file__).parents[3] / "docs" / "status.md").read_text("utf-8")


def rows(head):
    """Cells of the table whose first column is *head*."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def gateway(*addresses, generation=3):
    meta = ObjectMeta(name="west", namespace="istio-eastwest", generation=generation)
    fields = tuple(GatewayAddressField(value, "IPAddress") for value in addresses)
    return Gateway(metadata=meta, spec=GatewaySpec("istio-remote", addresses=fields))


REACHED = PathFacts(Path.REACHED)


def conditions(peer, path=REACHED, diagnostics=(), *, of=None, **kwargs):
    found = gw.remote_conditions(of or gateway("192.0.2.1"), peer, path, diagnostics, **kwargs)
    return {each.type: each for each in found}


def short(found):
    return "—" if found is None else f"{found.status}, {found.reason}"


def test_every_state_has_its_row():
    """None is missing, none is invented."""
    named = {row[0].partition(",")[0] for row in rows("state")}
    assert named == {state.value for state in PeerState}


@pytest.mark.parametrize("row", rows("state"), ids=lambda row: row[0])
def test_the_table_of_states_is_true(row):
    """PeerConnected, and PeeringSucceeded where imports are held and where they are not."""
    state, _, error = row[0].partition(", ")
    peer = PeerFacts(PeerState(state), error="broken" if error else "")
    held = conditions(PeerFacts(peer.state, synced=True, error=peer.error))
    missing = conditions(peer)
    assert row[1:] == [
        short(held.get(gw.CONNECTED)),
        short(held.get(gw.SUCCEEDED)),
        short(missing.get(gw.SUCCEEDED)),
    ]
    assert short(missing.get(gw.CONNECTED)) == row[1]
    if error:
        assert "broken" in held[gw.CONNECTED].message


def test_every_condition_of_a_gateway_is_described():
    """With its reasons."""
    described = {row[0].strip("`"): " ".join(row) for row in rows("condition")}
    assert {gw.ACCEPTED, gw.PROGRAMMED, gw.CONNECTED, gw.SUCCEEDED, gw.DATA_PLANE, PROBLEM} <= set(described)
    assert "`GatewayUnknown`" in described[gw.DATA_PLANE]
    assert "`Unreachable`" in described[gw.DATA_PLANE]


@pytest.mark.parametrize("path", Path)
def test_the_data_plane_is_as_it_was_found(path):
    """Status and reason are the path's, with its message."""
    found = conditions(PeerFacts(PeerState.LIVE, synced=True), PathFacts(path, "why"))[gw.DATA_PLANE]
    assert (found.reason, found.status, found.message) == (*path.value, "why")


def test_a_gateway_that_leads_home_is_accepted_and_no_more():
    """Reason Self (D15): there is nothing to connect to."""
    found = conditions(PeerFacts(PeerState.SELF))
    assert short(found[gw.ACCEPTED]) == "True, Self"
    assert not {gw.CONNECTED, gw.SUCCEEDED, gw.DATA_PLANE} & set(found)


def test_a_gateway_that_cannot_be_dialled_says_why():
    """Field, problem and fix of its first error; all of them under Problem."""
    wrong = Diagnostic("Gateway/a/west", "spec.addresses", "has no address", "add one")
    odd = Diagnostic("Gateway/a/west", "spec.listeners", "is odd", "mend it", Severity.WARNING)
    found = conditions(None, diagnostics=(odd, wrong), of=gateway())
    assert short(found[gw.ACCEPTED]) == "False, Invalid"
    assert found[gw.ACCEPTED].message == "spec.addresses: has no address; add one"
    assert short(found[gw.PROGRAMMED]) == "False, AddressNotAssigned"
    assert short(found[PROBLEM]) == "True, NotServed"
    assert (
        found[PROBLEM].message == "spec.addresses: has no address; add one | spec.listeners: is odd; mend it"
    )
    assert short(conditions(None, peering=False)[gw.ACCEPTED]) == "True, PeeringOff"


def test_a_warning_alone_leaves_the_gateway_accepted():
    """It is served, hardly as meant."""
    odd = Diagnostic("Gateway/a/west", "spec.listeners", "is odd", "mend it", Severity.WARNING)
    found = conditions(PeerFacts(PeerState.LIVE, synced=True), diagnostics=(odd,))
    assert short(found[gw.ACCEPTED]) == "True, Accepted"
    assert short(found[PROBLEM]) == "True, NotAsMeant"


def test_beside_istiod_only_our_own_words_are_written():
    """D33: the rest of the status is istiod's, addresses included."""
    peer = PeerFacts(PeerState.LIVE, synced=True)
    found = gw.remote_conditions(gateway("192.0.2.1"), peer, PathFacts(Path.REACHED))
    alone = gw.remote_status(gateway("192.0.2.1"), found, beside=False)
    beside = gw.remote_status(gateway("192.0.2.1"), found, beside=True)
    assert alone["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]
    assert {each["type"] for each in alone["conditions"]} >= {gw.ACCEPTED, gw.PROGRAMMED, gw.CONNECTED}
    assert {each["type"] for each in beside["conditions"]} == {gw.CONNECTED, gw.SUCCEEDED, gw.DATA_PLANE}
    assert list(beside) == ["conditions"]
    assert {each["observedGeneration"] for each in alone["conditions"]} == {3}


def test_only_classes_of_our_controllers_are_accepted():
    """Another controller's class is its own to accept."""
    ours = GatewayClass(spec=GatewayClassSpec("peerd.io/eastwest-controller"))
    assert [
        short(each) for each in gw.class_conditions(ours, frozenset({"peerd.io/eastwest-controller"}))
    ] == ["True, Accepted"]
    assert gw.class_conditions(ours, frozenset({"istio.io/unmanaged-gateway"})) == ()


def test_a_message_is_cut_where_it_is_too_long():
    """STATUS_MESSAGE_CHARACTERS, counted."""
    from peerd.limits import STATUS_MESSAGE_CHARACTERS, hits

    before = hits(STATUS_MESSAGE_CHARACTERS)
    assert shortened("short") == "short"
    assert hits(STATUS_MESSAGE_CHARACTERS) == before
    assert len(shortened("x" * 5000)) == STATUS_MESSAGE_CHARACTERS.value
    assert hits(STATUS_MESSAGE_CHARACTERS) == before + 1


def test_reasons_are_words_that_the_api_takes():
    """`metav1.Condition` wants CamelCase; kinds without a generation get none."""
    reasons = [reason for _, reason in gw.CONNECTION.values()] + [
        each for pair in gw.SYNC.values() for each in pair
    ]
    reasons += [path.value[0] for path in Path]
    assert all(re.fullmatch(r"[A-Za-z]+", each) for each in reasons if each)
    assert "observedGeneration" not in status_tree([yes("A", "B")], 0)[0]
