"""A node must belong to the identity that its caller proved (wire-contract §5.3)."""

import pytest

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.serve.node import check_node_identity
from peerd.transport.base import StatusCode, StreamClosed

ZTUNNEL = Caller(CallerKind.WORKLOAD, SpiffeId("cluster.local", "istio-system", "ztunnel"))
NODE = "ztunnel~10.0.0.7~zt-1.istio-system~istio-system.svc.cluster.local"
OTHER = "ztunnel~10.0.0.7~zt-1.shop~shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("node", "namespace", "account"),
    [
        (NODE, "istio-system", "ztunnel"),
        (NODE, "istio-system", ""),
        (NODE, "", ""),
        (OTHER, "istio-system", ""),
        ("ztunnel~1.1.1.1~a.b~", "", ""),
    ],
)
def test_a_node_of_the_identity_passes(node: str, namespace: str, account: str) -> None:
    """Metadata first, the node id's DNS part only where there is none."""
    check_node_identity(ZTUNNEL, node, namespace, account)


@pytest.mark.parametrize(
    ("node", "namespace", "account", "told"),
    [
        (NODE, "shop", "", "matched shop/"),
        (NODE, "istio-system", "istiod", "matched istio-system/istiod"),
        (OTHER, "", "", "matched shop/"),
    ],
)
def test_a_node_of_another_is_refused(node: str, namespace: str, account: str, told: str) -> None:
    """PERMISSION_DENIED with istiod's text."""
    with pytest.raises(StreamClosed) as caught:
        check_node_identity(ZTUNNEL, node, namespace, account)

    assert caught.value.code is StatusCode.PERMISSION_DENIED
    assert caught.value.message == (
        "authorization failed: no identities ([spiffe://cluster.local/ns/istio-system/sa/ztunnel]) " + told
    )


@pytest.mark.parametrize("node", ["", "ztunnel", "a~b~c", "a~b~c~d~e"])
@pytest.mark.parametrize("caller", [ZTUNNEL, Caller(CallerKind.LOOPBACK)])
def test_a_node_id_has_four_parts(node: str, caller: Caller) -> None:
    """INVALID_ARGUMENT, whoever calls."""
    with pytest.raises(StreamClosed) as caught:
        check_node_identity(caller, node, "istio-system", "")

    assert caught.value.code is StatusCode.INVALID_ARGUMENT


def test_the_loopback_caller_may_say_what_it_likes() -> None:
    """It proved nothing that could be compared."""
    check_node_identity(Caller(CallerKind.LOOPBACK), OTHER, "anything", "anyone")


def test_a_caller_without_identity_is_refused() -> None:
    """Nothing matches nothing."""
    with pytest.raises(StreamClosed) as caught:
        check_node_identity(Caller(CallerKind.WORKLOAD), NODE, "istio-system", "")

    assert caught.value.code is StatusCode.PERMISSION_DENIED
