"""Who may say to be which gateway, and what each is served (decision D37)."""

import pytest

from peerd.app.gateways import Gateways
from peerd.derive.commit import Commit
from peerd.model.caller import Caller, CallerKind
from peerd.model.gateway_config import GatewayListener, ListenerKind, OwnGateway
from peerd.model.identity import SpiffeId
from peerd.model.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from peerd.protocol.envelope import Node
from peerd.serve.gateways import check_gateway, gateway_rules
from peerd.transport.base import PeerCertificate, StatusCode, StreamClosed
from tests.support.fake_stream import FakeStream

OWN = {"istio-system/ew": OwnGateway("istio-system", "ew", "edge")}
EDGE = Caller(CallerKind.GATEWAY, SpiffeId("cluster.local", "istio-system", "edge"))


def node(namespace: str = "istio-system", name: str = "ew", bind: str = "") -> Node:
    return Node(
        id=f"router~10.0.0.1~pod.{namespace}~{namespace}.svc.cluster.local",
        metadata={"NAMESPACE": namespace, "GATEWAY_NAME": name, "BIND_ADDRESS": bind},
    )


def test_a_gateway_of_ours_is_who_it_says():
    """Namespace, name and account agree."""
    check_gateway(node(), EDGE, OWN)


@pytest.mark.parametrize(
    ("told", "caller", "reason"),
    [
        (None, EDGE, "the first request must carry a node"),
        (node(name="other"), EDGE, "there is no Gateway istio-system/other of class istio-eastwest"),
        (node(namespace="shop"), EDGE, "authorization failed"),
        (
            node(),
            Caller(CallerKind.GATEWAY, SpiffeId("cluster.local", "istio-system", "other")),
            "is not Gateway istio-system/ew, whose account is edge",
        ),
    ],
)
def test_another_one_is_refused_by_name(told, caller, reason):
    """Each with what to mend."""
    with pytest.raises(StreamClosed) as refused:
        check_gateway(told, caller, OWN)
    assert reason in refused.value.message


def stream(uri: str) -> FakeStream:
    return FakeStream(certificate=PeerCertificate((uri,), "key", 0.0))


@pytest.fixture
def gateways() -> Gateways:
    found = Gateways(lambda: "cluster.local", active=True)
    found.committed(Commit(1, gateways=tuple(OWN.items())))
    return found


async def test_the_port_admits_accounts_of_our_gateways(gateways):
    """As gateways, nothing else."""
    caller = await gateways.authenticate(stream("spiffe://cluster.local/ns/istio-system/sa/edge"))
    assert (caller.kind, str(caller.identity)) == (
        CallerKind.GATEWAY,
        "spiffe://cluster.local/ns/istio-system/sa/edge",
    )


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://other.example/ns/istio-system/sa/edge",
        "spiffe://cluster.local/ns/shop/sa/edge",
        "spiffe://cluster.local/ns/istio-system/sa/peerd",
        "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
    ],
)
async def test_the_port_admits_nobody_else(gateways, uri):
    """Another trust domain, another namespace's account of that name, a control plane, a ztunnel."""
    with pytest.raises(StreamClosed) as refused:
        await gateways.authenticate(stream(uri))
    assert refused.value.code is StatusCode.UNAUTHENTICATED


async def test_a_gateway_that_was_deleted_is_nobody(gateways):
    """From the next stream on."""
    gateways.committed(Commit(2, gateways=(("istio-system/ew", None),)))
    with pytest.raises(StreamClosed):
        await gateways.authenticate(stream("spiffe://cluster.local/ns/istio-system/sa/edge"))


def test_each_gateway_is_given_its_own_listeners():
    """By name and by the address that it binds."""
    groups = gateway_rules()[LISTENER].own_groups
    assert groups is not None
    listener = GatewayListener("istio-system/ew", ListenerKind.HBONE, "192.0.2.1", 15008)
    assert groups(node(bind="192.0.2.1")) == (listener.group,)
    assert groups(node()) == (GatewayListener("istio-system/ew", ListenerKind.HBONE, "0.0.0.0", 1).group,)


def test_what_is_named_goes_out_before_who_names_it():
    """Clusters, endpoints, listeners, the route."""
    assert list(gateway_rules()) == [CLUSTER, ENDPOINT, LISTENER, ROUTE]


def test_without_a_port_nothing_is_encoded():
    """A cluster without gateways pays nothing."""
    off = Gateways(lambda: "cluster.local", active=False)
    assert off.types == ()
    assert list(off.resources(Commit(1, gateways=tuple(OWN.items())))) == []
