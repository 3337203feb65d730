"""Endpoints of peers on our own network: a Workload for each, reached at its own address (decision D31).

The importer has refused what contradicts the peer itself (peerd/peering/validation.py). Here an endpoint
joins only names that this cluster takes in from the same peer, and has no address that is somebody else's.
"""

import hashlib

import msgspec

from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.gateways import NetworkGateways
from peerd.derive.global_services import GlobalServices
from peerd.derive.imports import Import
from peerd.derive.problems import keyed, warning
from peerd.derive.remote_endpoints import RemoteEndpoints
from peerd.derive.remote_workloads import counted, filled
from peerd.model.address import Locality, Port, ip_text
from peerd.model.diagnostic import Diagnostic
from peerd.model.record import Record
from peerd.model.sharing import shared
from peerd.model.workload import ServicePorts, Workload


class Candidate(Record, frozen=True):
    """An endpoint of a peer as it would be served. `rank` decides who has an address: the smaller one."""

    workload: Workload
    gateway: str
    rank: tuple[str, str]


class FlatEndpoints:
    """Workloads under their uid, `autogenflat.<cluster>.<namespace>.<name>.<12 hex>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        names: GlobalServices,
        gateways: NetworkGateways,
        remote: RemoteEndpoints,
        imported: Input[tuple[str, str], Workload],
        workloads: tuple[Collection[str, Workload], ...],
        node_addresses: Input[str, str],
    ) -> None:
        self._names = names
        self._gateways = gateways
        self._remote = remote
        self._here = engine.index(
            "local workloads by address", workloads, lambda _uid, found: found.addresses
        )
        self._nodes = engine.index("nodes by address", node_addresses, lambda _key, address: (address,))
        # Under the Gateway's key and the exporter's uid.
        self._candidates = engine.derive("endpoints on our network", imported, self._candidate)
        self._there = engine.index(
            "endpoints on our network by address",
            self._candidates,
            lambda _key, found: found.workload.addresses,
        )
        self.wire = engine.derive_many("flat workloads", self._candidates, self._served)
        self.diagnostics = engine.derive_many("addresses twice", self._candidates, self._diagnostics)

    def _candidate(self, ctx: Context, key: tuple[str, str], workload: Workload) -> Candidate | None:
        peer = key[0]
        gateway = ctx.get(self._gateways.remote, peer)
        imports = [
            (found, entry)
            for entry in workload.services
            if (found := self._import(ctx, peer, entry)) is not None and _is_of(workload, found)
        ]
        if gateway is None or not imports:
            return None
        first = imports[0][0]
        services = tuple(
            sorted(
                (joined for found, entry in imports for joined in self._services(ctx, found, entry)),
                key=lambda joined: joined.service,
            )
        )
        if not services:
            return None
        capacity = workload.capacity
        if capacity is not None and first.stale and self._remote.is_fresh(ctx, first):
            capacity = counted(capacity, stale=True, fresh_elsewhere=True)
        uid = _name(first.cluster, workload)
        locality = filled(workload.locality or Locality(), first.locality)
        served = msgspec.structs.replace(
            workload,
            uid=uid,
            # Neither name nor node may look like ours: ztunnel finds its own Pods by them (§3.1).
            name=uid,
            node="",
            network_gateway=self._gateways.into(ctx, workload.network),  # as every workload of a network
            services=shared(services),
            locality=None if locality == Locality() else shared(locality),
            capacity=capacity,
        )
        return Candidate(served, peer, (gateway.metadata.creation_timestamp or "~", peer))

    def _import(self, ctx: Context, peer: str, entry: ServicePorts) -> Import | None:
        """The service of the same peer that an endpoint says to serve, where it is taken in.

        Not behind a waypoint: it would be passed by, and the gateway leads there.
        """
        namespace, _, host = entry.service.partition("/")
        found = ctx.get(self._names.imports, (peer, f"{namespace}/{host.partition('.')[0]}"))
        if found is None or found.key != entry.service or not found.flat or found.service.waypoint:
            return None
        return found

    def _services(self, ctx: Context, found: Import, entry: ServicePorts) -> list[ServicePorts]:
        """The names served here that lead to it, with the ports it has: its own targets, never 0 (§3.3)."""
        names, service = self._names, found.service
        targets = {port.service_port: port.target_port or port.service_port for port in entry.ports}
        aliases = names.alias_keys(ctx, service.resource_name, found.aliases)
        served = [ctx.get(names.ports, key) for key in (found.key, *aliases)]
        if ctx.get(names.taken_over, (found.peer, service.resource_name)) is not None:
            key = f"{service.namespace}/{service.local_host}"
            served.append(ctx.get(names.local_ports, key) or ctx.get(names.ports, key))
        return [
            ServicePorts(
                to.service,
                tuple(
                    Port(port.service_port, targets[port.service_port])
                    for port in to.ports
                    if port.service_port in targets
                ),
            )
            for to in served
            if to is not None
        ]

    # -- one address, one endpoint -----------------------------------------------------------------------

    def _is_here(self, ctx: Context, address: bytes) -> bool:
        return bool(ctx.find(self._here, address) or ctx.find(self._nodes, ip_text(address)))

    def _served(self, ctx: Context, _key: tuple[str, str], own: Candidate) -> dict[str, Workload]:
        for address in own.workload.addresses:
            if self._is_here(ctx, address):
                return {}
            if any(other.rank < own.rank for other in ctx.find(self._there, address)):
                return {}
        return {own.workload.uid: own.workload}

    def _diagnostics(self, ctx: Context, _key: tuple[str, str], own: Candidate) -> dict[str, Diagnostic]:
        """One for each pair of clusters, by an example: there may be thousands of addresses."""
        told: dict[str, Diagnostic] = {}
        where, field = f"Gateway/{own.gateway}", "spec.addresses"
        fix = "give the clusters of one network Pod addresses that do not overlap, or networks of their own"
        for address in own.workload.addresses:
            said = f"{own.workload.cluster_id} has endpoints at addresses that"
            if self._is_here(ctx, address):
                text = f"{said} are this cluster's, like {ip_text(address)}: ours count"
                told.update(keyed((warning(where, field, text, fix),), "flat"))
            for other in ctx.find(self._there, address):
                if other.gateway != own.gateway:
                    first = min(other, own, key=lambda found: found.rank)
                    text = (
                        f"{said} {other.workload.cluster_id} has too, like {ip_text(address)}:"
                        f" those of {first.workload.cluster_id} count, its Gateway is older or first by name"
                    )
                    told.update(keyed((warning(where, field, text, fix),), f"flat {other.gateway}"))
        return told


def _is_of(workload: Workload, found: Import) -> bool:
    """Whether an endpoint is what the peer may speak for (decision D23); its namespace is no system's."""
    return (
        workload.cluster_id == found.cluster
        and (workload.trust_domain or "cluster.local") == found.trust_domain
        and workload.namespace == found.service.namespace
    )


def _name(cluster: str, workload: Workload) -> str:
    digest = hashlib.sha256(workload.uid.encode()).hexdigest()[:12]
    return f"autogenflat.{cluster}.{workload.namespace}.{workload.name}.{digest}"
