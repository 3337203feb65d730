"""The dump shows what ztunnels are sent, in words."""

import json

from peerd.encode.address import encode_address
from peerd.encode.policy import encode_policy
from peerd.model.address import GatewayAddress, NetworkAddress
from peerd.model.authorization import Action, Authorization
from peerd.model.resource import ResourceChange
from peerd.model.service import LoadBalancing, Mode, Scope, Service
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.workload import TunnelProtocol, Workload
from peerd.observe.config_dump import config_dump
from peerd.resources.store import ResourceStore

ADDRESSES = (
    Workload(
        "east//Pod/shop/web",
        "web",
        "shop",
        (bytes((10, 0, 0, 1)),),
        "net",
        TunnelProtocol.HBONE,
        network_gateway=GatewayAddress(NetworkAddress("net", bytes((1, 2, 3, 4))), 15008),
    ),
    Service(
        "web",
        "shop",
        "web.shop.svc.cluster.local",
        (NetworkAddress("net", bytes(15) + b"\x01"),),
        load_balancing=LoadBalancing((Scope.NETWORK,), Mode.FAILOVER),
    ),
)
POLICY = Authorization("p", "shop", action=Action.DENY)


async def test_what_is_served_is_shown_with_names_and_addresses_in_words():
    """Grouped as ztunnel groups, with the resource's name and version; defaults are left out."""
    store = ResourceStore((AUTHORIZATION, ADDRESS), "i")
    encoded = [(ADDRESS, encode_address(record)) for record in ADDRESSES] + [
        (AUTHORIZATION, encode_policy(POLICY))
    ]
    store.commit(ResourceChange(url, resource.name, resource) for url, resource in encoded)
    assert await config_dump(store) == {"workloads": [], "services": [], "policies": []}
    store.close_window()
    dump = json.loads(json.dumps(await config_dump(store)))
    (workload,), (service,), (policy,) = dump["workloads"], dump["services"], dump["policies"]
    assert workload["resource"] == "east//Pod/shop/web"
    assert (workload["addresses"], workload["tunnel_protocol"]) == (["10.0.0.1"], "HBONE")
    assert workload["network_gateway"]["destination"] == {"network": "net", "address": "1.2.3.4"}
    assert "hostname" not in workload
    assert service["addresses"] == [{"network": "net", "address": "::1"}]
    assert service["load_balancing"] == {"routing_preference": ["NETWORK"], "mode": "FAILOVER"}
    assert (policy["resource"], policy["action"]) == ("shop/p", "DENY")
    assert policy["version"] == encoded[2][1].version
