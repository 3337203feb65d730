"""An east-west gateway's Envoy as a client: all clusters, the endpoints that they name, its own listeners."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

from peerd.api.envoy import gateway_pb2 as pb
from peerd.model.gateway_config import ANY_IPV4, BIND_ADDRESS, GATEWAY_NAME, gateway_group
from peerd.model.types import CLUSTER, DELTA_METHOD, ENDPOINT, LISTENER, ROUTE
from peerd.protocol.envelope import DeltaResponse, Node, delta_request, parse_delta_response
from peerd.transport.base import StreamClosed
from tests.simulation.network import SimChannel

NAME = "eastwest"
IDENTITY = f"spiffe://cluster.local/ns/istio-system/sa/{NAME}"
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)

_LONGEST_BACKOFF = 30.0


class Observer(Protocol):
    """Told of each response before it is taken up."""

    def gateway_told(self, gateway: "SimGateway", response: DeltaResponse) -> None: ...


class SimGateway:
    """One Envoy; `run` never ends. `clusters` are authorities with the name of what is behind them."""

    def __init__(
        self, name: str, cluster: str, connect: Callable[[], SimChannel], observer: Observer
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.connect = connect
        self._observer = observer
        self._node = Node(
            id=f"router~10.0.0.2~{name}.istio-system~x",
            metadata={"NAMESPACE": "istio-system", GATEWAY_NAME: NAME, BIND_ADDRESS: ANY_IPV4},
        )
        self.held: dict[str, dict[str, str]] = {each: {} for each in TYPES}
        self.clusters: dict[str, str] = {}
        self.endpoints: dict[str, frozenset[str]] = {}
        self.connected_since = -1.0  # virtual seconds; -1 while there is no answered stream
        self.at = ""  # the host of the replica that it is connected to

    def due(self, type_url: str, expected: dict[str, str]) -> dict[str, str]:
        """Of everything that there is, what it must hold."""
        if type_url == LISTENER:
            group = gateway_group(f"istio-system/{NAME}", ANY_IPV4)
            return {name: version for name, version in expected.items() if name.startswith(f"{group}/")}
        return expected

    async def run(self) -> None:
        """Connect, follow, and again for ever."""
        backoff = 1.0
        while True:
            channel = self.connect()
            try:
                stream = await channel.open(DELTA_METHOD)
                self.at = channel.host
                for request in self._first():
                    await stream.send(request)
                while (message := await stream.receive()) is not None:
                    response = parse_delta_response(message)
                    self._observer.gateway_told(self, response)
                    for request in self._take(response):
                        await stream.send(request)
                    if response.type_url == ROUTE and self.connected_since < 0:
                        self.connected_since = asyncio.get_running_loop().time()
                    backoff = 1.0
            except StreamClosed:
                pass
            finally:
                self.connected_since = -1.0
                await channel.close()
            await asyncio.sleep(backoff)
            backoff = min(_LONGEST_BACKOFF, backoff * 2)

    def _first(self) -> list[bytes]:
        wildcards = [
            delta_request(each, versions=self.held[each], node=self._node)
            for each in (CLUSTER, LISTENER, ROUTE)
        ]
        names = sorted(set(self.clusters.values()))
        if not names:
            return wildcards
        return [*wildcards, delta_request(ENDPOINT, subscribe=names, versions=self.held[ENDPOINT])]

    def _take(self, response: DeltaResponse) -> list[bytes]:
        """Take a response up; returns the ACK, and what follows from it."""
        held = self.held[response.type_url]
        held.update((each.name, each.version) for each in response.resources)
        for name in response.removed:
            held.pop(name, None)
        answers = [delta_request(response.type_url, nonce=response.nonce)]
        if response.type_url == CLUSTER:
            answers += self._follow(response)
        elif response.type_url == ENDPOINT:
            for each in response.resources:
                self.endpoints[each.name] = addresses(each.payload)
            for name in response.removed:
                self.endpoints.pop(name, None)
        return answers

    def _follow(self, response: DeltaResponse) -> list[bytes]:
        """Ask for the endpoints that clusters name now, and no longer for those that none does."""
        before = set(self.clusters.values())
        for each in response.resources:
            found = pb.Cluster.FromString(each.payload)
            self.clusters[each.name] = found.eds_cluster_config.service_name
        for name in response.removed:
            self.clusters.pop(name, None)
        now = set(self.clusters.values())
        for name in before - now:
            self.held[ENDPOINT].pop(name, None)
            self.endpoints.pop(name, None)
        if before == now:
            return []
        return [delta_request(ENDPOINT, subscribe=sorted(now - before), unsubscribe=sorted(before - now))]


def addresses(payload: bytes) -> frozenset[str]:
    """Where the endpoints of a ClusterLoadAssignment are."""
    found = pb.ClusterLoadAssignment.FromString(payload)
    return frozenset(
        str(ip_address(each.endpoint.address.socket_address.address))
        for place in found.endpoints
        for each in place.lb_endpoints
    )
