"""Node authorisation: each condition has its refusal (wire-contract §5.4, checklist 38)."""

import msgspec
import pytest

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.serve.impersonation import ImpersonationRefusedError, check_impersonation
from tests.support.pods import REVIEWS, TRUSTED, ZTUNNEL, Pods


def test_a_ztunnel_may_have_what_runs_on_its_node() -> None:
    """All conditions hold."""
    assert check_impersonation(ZTUNNEL, REVIEWS, TRUSTED, Pods()) == REVIEWS


@pytest.mark.parametrize(
    ("caller", "wanted", "pods", "told"),
    [
        (
            msgspec.structs.replace(ZTUNNEL, identity=SpiffeId("td", "shop", "ztunnel")),
            REVIEWS,
            Pods(),
            "account shop/ztunnel is no trusted ztunnel account",
        ),
        (
            msgspec.structs.replace(ZTUNNEL, kind=CallerKind.PEER),
            REVIEWS,
            Pods(),
            "a peer caller may not impersonate",
        ),
        (Caller(CallerKind.LOOPBACK), REVIEWS, Pods(), "a loopback caller may not impersonate"),
        (ZTUNNEL, "reviews", Pods(), "the wanted identity 'reviews' is not of the form"),
        (ZTUNNEL, "spiffe://td/ns/shop/sa/", Pods(), "is not of the form"),
        (ZTUNNEL, "spiffe://other/ns/shop/sa/reviews", Pods(), "of trust domain 'other', the caller of 'td'"),
        (msgspec.structs.replace(ZTUNNEL, pod_name=""), REVIEWS, Pods(), "not bound to a Pod"),
        (
            msgspec.structs.replace(ZTUNNEL, pod_name="zt-2"),
            REVIEWS,
            Pods(),
            "istio-system/zt-2 does not exist",
        ),
        (ZTUNNEL, REVIEWS, Pods(uid="u-2"), "has uid 'u-2', the token says 'u-1'"),
        (
            msgspec.structs.replace(ZTUNNEL, pod_uid=""),
            REVIEWS,
            Pods(uid=""),
            "has uid '', the token says ''",
        ),
        (ZTUNNEL, REVIEWS, Pods(service_account="istiod"), "runs as 'istiod', the token says 'ztunnel'"),
        (ZTUNNEL, REVIEWS, Pods(node=""), "is on no node yet"),
        (ZTUNNEL, "spiffe://td/ns/shop/sa/ratings", Pods(), "no Pod of shop/ratings runs on node 'n1'"),
        (ZTUNNEL, "spiffe://td/ns/other/sa/reviews", Pods(), "no Pod of other/reviews runs on node 'n1'"),
    ],
)
def test_each_condition_has_its_refusal(caller: Caller, wanted: str, pods: Pods, told: str) -> None:
    """Account, kind, identity, trust domain, bound Pod, existence, uid, account, node, a Pod beside it."""
    with pytest.raises(ImpersonationRefusedError) as caught:
        check_impersonation(caller, wanted, TRUSTED, pods)

    assert told in str(caught.value)


def test_nobody_trusted_means_nobody_may() -> None:
    """An empty list is no wildcard."""
    with pytest.raises(ImpersonationRefusedError, match="no trusted ztunnel account"):
        check_impersonation(ZTUNNEL, REVIEWS, (), Pods())
