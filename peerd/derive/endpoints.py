"""What workloads of all kinds have in common (wire-contract §4.2).

Pods of a ReplicaSet differ in name, address and node only. What follows from namespace, labels and named
ports is computed once for all of them, as one memo, so that each Pod has two dependencies and not twenty.
"""

from collections.abc import Mapping

from peerd.derive import labels
from peerd.derive.engine import Context, Engine
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import Mesh
from peerd.derive.policies import Policies
from peerd.derive.services import SERVICE, ServiceInfo
from peerd.derive.waypoints import Waypoints
from peerd.model.address import GatewayAddress, Port
from peerd.model.record import Record
from peerd.model.workload import ApplicationTunnel, ServicePorts

# Namespace, labels, and named TCP ports (name, number) of the containers, in the order they are searched.
PodShape = tuple[str, labels.Labels, tuple[tuple[str, int], ...]]


class Routes(Record, frozen=True):
    """How a workload is entered: its waypoint, or the tunnel that its own inbound expects."""

    waypoint: GatewayAddress | None = None
    tunnel: ApplicationTunnel | None = None
    problem: str = ""


class PodContext(Record, frozen=True):
    """All of a Pod's Workload that follows from its shape. `selected` False: discovery leaves it out."""

    selected: bool
    network: str = ""
    network_gateway: GatewayAddress | None = None
    trust_domain: str = ""
    services: tuple[ServicePorts, ...] = ()
    policies: tuple[str, ...] = ()
    waypoint: GatewayAddress | None = None
    tunnel: ApplicationTunnel | None = None
    labelled_name: str | None = None
    canonical_revision: str = ""
    speaks_hbone: bool = False


def pod_ports(info: ServiceInfo, named: Mapping[str, int]) -> ServicePorts:
    """A Pod's ports in a service.

    A Service's named target is looked up among the containers' ports, and the port left out where there is
    none. A ServiceEntry's port takes the container port of its own name, else its number (§4.3).
    """
    ports: list[Port] = []
    for port, (name, target_name) in zip(info.service.ports, info.port_names, strict=True):
        target = port.target_port
        if target_name:
            if target_name not in named:
                continue
            target = named[target_name]
        elif info.source != SERVICE and name in named:
            target = named[name]
        ports.append(Port(port.service_port, target))
    return ServicePorts(info.key, tuple(ports))


def entry_ports(info: ServiceInfo, named: Mapping[str, int]) -> ServicePorts:
    """The ports of a WorkloadEntry or inline endpoint in a service: its port map by name, else the target.

    A Service's named target must be in the map, or the port is left out (wire-contract §4.3).
    """
    ports: list[Port] = []
    for port, (name, target_name) in zip(info.service.ports, info.port_names, strict=True):
        if target_name:
            if target_name not in named:
                continue
            target = named[target_name]
        else:
            target = named.get(name, port.target_port)
        ports.append(Port(port.service_port, target))
    return ServicePorts(info.key, tuple(ports))


class Endpoints:
    """Look-ups that every kind of workload makes."""

    def __init__(
        self,
        engine: Engine,
        *,
        mesh: Mesh,
        hostnames: Hostnames,
        waypoints: Waypoints,
        policies: Policies,
        gateways: NetworkGateways,
        global_services: GlobalServices,
    ) -> None:
        self.mesh = mesh
        self.hostnames = hostnames
        self.global_services = global_services
        self._waypoints = waypoints
        self.policies = policies
        self._gateways = gateways
        self.gateway = engine.memo("gateway of a network", self._gateway)
        self.pod = engine.memo("pod contexts", self._pod)

    def _gateway(self, ctx: Context, network: str) -> tuple[GatewayAddress | None]:
        return (self._gateways.into(ctx, network),)

    def services(self, ctx: Context, namespace: str, found: labels.Labels) -> list[ServiceInfo]:
        """The services of *namespace* whose non-empty selector *found* contains, by resource name."""
        all_labels = dict(found)
        selected = [
            info
            for pair in found
            for info in ctx.find(self.hostnames.selecting, (namespace, *pair))
            if labels.contains(all_labels, info.selector)
        ]
        selected.sort(key=lambda info: info.key)
        return selected

    def routes(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> Routes:
        """An instance of a waypoint says what its inbound expects and has no waypoint itself (§4.5)."""
        own = self._waypoints.instance(ctx, namespace, found)
        if own is not None:
            return Routes(tunnel=own.tunnel)
        binding = self._waypoints.for_workload(ctx, namespace, found)
        return Routes(None if binding.waypoint is None else binding.waypoint.address, None, binding.problem)

    def _pod(self, ctx: Context, shape: PodShape) -> PodContext:
        namespace, found, ports = shape
        if not ctx.ask(self.mesh.selected, namespace):
            return PodContext(selected=False)
        mesh = self.mesh.of(ctx)
        all_labels = dict(found)
        # Of two containers' ports with one name the first is found.
        named = dict(reversed(ports))
        routes = self.routes(ctx, namespace, all_labels)
        services = tuple(pod_ports(info, named) for info in self.services(ctx, namespace, found))
        return PodContext(
            selected=True,
            network=mesh.network,
            network_gateway=ctx.ask(self.gateway, mesh.network)[0],
            trust_domain=mesh.trust_domain,
            services=self.global_services.expand(ctx, services),
            policies=self.policies.listed(ctx, namespace, found),
            waypoint=routes.waypoint,
            tunnel=routes.tunnel,
            labelled_name=labels.labelled_name(all_labels),
            canonical_revision=labels.canonical_revision(all_labels),
            speaks_hbone=labels.speaks_hbone_itself(all_labels),
        )
