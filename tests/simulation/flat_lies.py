"""Lies about workloads on a network that the clusters share: one for each check there is."""

from collections.abc import Callable
from typing import Any

import msgspec

from peerd.api.envoy import discovery_pb2 as xds
from peerd.encode.address import encode_address
from peerd.limits import PEER_CAPACITY
from peerd.model.address import GatewayAddress, NetworkAddress, Port
from peerd.model.federation import PeerInfo
from peerd.model.resource import Resource
from peerd.model.service import Service
from peerd.model.types import ADDRESS
from peerd.model.workload import (
    ApplicationTunnel,
    ApplicationTunnelProtocol,
    ServicePorts,
    TunnelProtocol,
    Workload,
)
from tests.simulation.lies import Lie, Response


def _workload(title: str, **fields: Any) -> Callable[[Response, PeerInfo], str | None]:
    def change(response: Response, info: PeerInfo) -> str | None:
        honest = Workload(
            uid=f"{info.cluster}//Pod/shop/{title.replace(' ', '-')}",
            name="lie",
            namespace="shop",
            cluster_id=info.cluster,
            network=info.network,
            addresses=(bytes((10, 0, 0, 99)),),
            trust_domain=info.trust_domain,
            tunnel_protocol=TunnelProtocol.HBONE,
        )
        lie = msgspec.structs.replace(honest, **fields)
        response.resources.extend(_message(encode_address(lie)).resources)
        return lie.uid

    return change


def _service(response: Response, _info: PeerInfo) -> str:
    service = Service(name="lie", namespace="shop", hostname="lie.shop.svc.cluster.local")
    message = _message(encode_address(service))
    response.resources.extend(message.resources)
    return str(message.resources[0].name)


def _message(resource: Resource) -> Response:
    return xds.DeltaDiscoveryResponse.FromString(resource.frame)


def _member(service: str, *ports: Port) -> tuple[ServicePorts, ...]:
    return (ServicePorts(service, ports),)


_WEB = "shop/web.shop.mesh.internal"
_GATEWAY = GatewayAddress(NetworkAddress("flat", bytes((10, 0, 0, 98))), 15008)

_WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "entered by a gateway": ("by way of something else", {"network_gateway": _GATEWAY}),
    "entered by a tunnel": (
        "by way of something else",
        {"application_tunnel": ApplicationTunnel(ApplicationTunnelProtocol.PROXY, 80)},
    ),
    "in the clear": ("does not speak HBONE", {"tunnel_protocol": TunnelProtocol.NONE}),
    "by a host name": ("no address of its own", {"hostname": "example.org"}),
    "nowhere": ("no address of its own", {"addresses": ()}),
    "at five bytes": ("not one that a Pod can have", {"addresses": (bytes(5),)}),
    "at loopback": ("not one that a Pod can have", {"addresses": (bytes((127, 0, 0, 1)),)}),
    "with policies": ("its own cluster's affair", {"authorization_policies": ("shop/any",)}),
    "with much capacity": ("not credible", {"capacity": int(PEER_CAPACITY.value) + 1}),
    "of a local service": ("no global service", {"services": _member("shop/web.shop.svc.cluster.local")}),
    "of a service below": ("no global service", {"services": _member("shop/a.web.shop.mesh.internal")}),
    "of a system service": (
        "system namespace",
        {"services": _member("istio-system/web.istio-system.mesh.internal")},
    ),
    "at no port": ("no port numbers", {"services": _member(_WEB, Port(0, 80))}),
    "at a port too high": ("no port numbers", {"services": _member(_WEB, Port(80, 70_000))}),
}

FLAT_LIES: tuple[Lie, ...] = (
    *(Lie(title, ADDRESS, _workload(title, **fields), words) for title, (words, fields) in _WRONG.items()),
    Lie("a service for a workload", ADDRESS, _service, "never a Service"),
)
"""Told in one breath; all of them are refused."""
