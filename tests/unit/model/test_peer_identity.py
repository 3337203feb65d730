"""Who may stand on the other end of a peer stream (decision D14)."""

import pytest

from peerd.model.identity import SpiffeId
from peerd.model.peer_identity import PeerRefusedError, check_peer

WEST = SpiffeId("west", "istio-system", "peerd")
EAST = SpiffeId("east", "istio-system", "peerd")


def test_the_control_plane_that_is_meant_is_let_in() -> None:
    """Its identity is returned; a pin that fits does not matter."""
    assert check_peer([str(WEST)], "abc", [WEST, EAST]) == WEST
    assert check_peer([str(WEST)], "abc", {WEST}, {"abc", "def"}) == WEST


@pytest.mark.parametrize(
    ("uris", "told"),
    [
        ((), "must name exactly one URI, and names none"),
        ((str(WEST), str(EAST)), "exactly one URI"),
        (("https://west/peerd",), "cannot be an identity"),
        (("spiffe://west/peerd",), "cannot be an identity"),
        (("spiffe://other/ns/istio-system/sa/peerd",), "trust domain 'other'; accepted here: east, west"),
        (
            ("spiffe://west/ns/shop/sa/reviews",),
            "not a control plane of a peer; accepted here: spiffe://west/",
        ),
        (("spiffe://west/ns/istio-system/sa/istio-eastwest",), "not a control plane"),
        (("spiffe://west/ns/other/sa/peerd",), "not a control plane"),
        (("SPIFFE://west/ns/istio-system/sa/peerd",), "cannot be an identity"),
    ],
)
def test_everybody_else_is_refused_with_the_reason(uris: tuple[str, ...], told: str) -> None:
    """No or several names, other forms, another trust domain, a workload, a gateway, another namespace."""
    with pytest.raises(PeerRefusedError, match=told):
        check_peer(uris, "abc", [WEST, EAST])


def test_in_a_shared_trust_domain_the_issuer_is_pinned() -> None:
    """The right name under another cluster's CA is refused, both keys are told."""
    with pytest.raises(PeerRefusedError, match="with key abc, pinned is def"):
        check_peer([str(WEST)], "abc", [WEST], ["def"])


def test_nobody_accepted_means_nobody_comes_in() -> None:
    """An empty list is no wildcard."""
    with pytest.raises(PeerRefusedError, match="accepted here: none"):
        check_peer([str(WEST)], "abc", [])
