"""The table of a peer's states."""

import pytest

from peerd.protocol.peer_state import (
    TRANSITIONS,
    ImpossibleTransitionError,
    PeerEvent,
    PeerState,
    PeerStatus,
    follow,
)


def test_every_state_can_be_reached_and_left() -> None:
    """Left: to another state. Reached: by some event from the first state on."""
    reached, frontier = {PeerState.CONNECTING}, [PeerState.CONNECTING]
    while frontier:
        state = frontier.pop()
        for (before, _), after in TRANSITIONS.items():
            if before is state and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(PeerState)
    left = {before for (before, _), after in TRANSITIONS.items() if before is not after}
    assert left == set(PeerState)


def test_no_state_but_self_is_deaf_to_a_loss_or_a_refusal() -> None:
    for state in set(PeerState) - {PeerState.SELF}:
        assert (state, PeerEvent.LOST) in TRANSITIONS
        assert (state, PeerEvent.REFUSED) in TRANSITIONS


def test_an_edit_of_the_gateway_is_possible_in_every_state() -> None:
    assert all((state, PeerEvent.CHANGED) in TRANSITIONS for state in PeerState)


def test_since_moves_only_when_the_state_does() -> None:
    status = PeerStatus(since=1.0)
    status = follow(status, PeerEvent.LOST, 2.0, "no route")
    assert status == PeerStatus(PeerState.CONNECTING, 1.0, "no route")
    status = follow(status, PeerEvent.OPENED, 3.0)
    assert status == PeerStatus(PeerState.SYNCING, 3.0, "no route")


def test_a_completed_sync_clears_the_last_error_and_nothing_else_does() -> None:
    status = PeerStatus(PeerState.SYNCING, 1.0, "no route")
    assert follow(status, PeerEvent.SYNCED, 2.0) == PeerStatus(PeerState.LIVE, 2.0, "")
    assert follow(status, PeerEvent.LOST, 2.0).last_error == "no route"


def test_what_cannot_happen_is_a_bug_and_says_so() -> None:
    with pytest.raises(ImpossibleTransitionError, match="synced while connecting"):
        follow(PeerStatus(), PeerEvent.SYNCED, 1.0)
