"""Where would ztunnel send a request? A model of its choice, as a test oracle (wire-contract §3.2 to §3.4).

It answers from nothing but the records a control plane has sent. Chance is not played out: an answer names
every endpoint that may be picked, with its share of many requests, and what would go wrong with it.
"""

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction

from peerd.model.address import GatewayAddress, Locality, NamespacedHostname, NetworkAddress, Port, parse_ip
from peerd.model.identity import SpiffeId
from peerd.model.record import Record
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope, Service, Visibility
from peerd.model.workload import NetworkMode, TunnelProtocol, Workload, WorkloadStatus

TCP = "tcp"
HBONE = "hbone"
DOUBLE_HBONE = "double hbone"


class Client(Record, frozen=True):
    """Who asks: a workload of ztunnel's node."""

    network: str
    namespace: str = "client"
    cluster: str = ""
    node: str = ""
    locality: Locality = Locality()


class RefusedError(Exception):
    """The request goes nowhere; the message says why."""


class Target(Record, frozen=True):
    """One workload that may be picked, for `share` of all requests.

    `path` is how it is reached; `port` where it listens, 0 over a gateway, which finds it by `authority`.
    `identities` are those it may prove, `outer` those of the gateway in front. `waypoint` says that it is not
    the destination but a waypoint before it. `problem` is why the request would fail, or empty.
    """

    workload: Workload
    share: Fraction
    path: str
    port: int = 0
    authority: str = ""
    identities: tuple[str, ...] = ()
    outer: tuple[str, ...] = ()
    waypoint: bool = False
    problem: str = ""


def identity_of(workload: Workload) -> str:
    """The SPIFFE URI a workload's certificate carries."""
    domain = workload.trust_domain or "cluster.local"
    return str(SpiffeId(domain, workload.namespace, workload.service_account or "default"))


class Ztunnel:
    """What one ztunnel knows."""

    def __init__(self, records: Iterable[Workload | Service], *, domain: str = "cluster.local") -> None:
        self._domain = domain
        self._services: dict[str, Service] = {}
        self._workloads: dict[str, Workload] = {}
        self._members: dict[str, list[Workload]] = defaultdict(list)
        for record in records:
            if isinstance(record, Service):
                self._services[record.resource_name] = record
            else:
                self._workloads[record.uid] = record
                for entry in record.services:
                    self._members[entry.service].append(record)

    # -- look-ups (§3.2) ---------------------------------------------------------------------------------

    def named(self, client: Client, hostname: str) -> Service | None:
        """The service of a host name, as DNS and inbound find it; wildcards after exact names."""
        exact = [found for found in self._services.values() if found.hostname == hostname]
        wild = [
            found
            for found in self._services.values()
            if found.hostname.startswith("*.") and hostname.endswith(found.hostname[1:])
        ]
        return _ranked(client, exact) or _ranked(client, wild)

    def resolve(self, client: Client, hostname: str) -> tuple[bytes, ...]:
        """What the DNS proxy answers: addresses of the client's network only."""
        service = self.named(client, hostname)
        if service is None:
            return ()
        if service.addresses:
            return tuple(found.address for found in service.addresses if found.network == client.network)
        if not hostname.endswith(f".svc.{self._domain}"):
            return ()
        members = self._healthy(service)
        return tuple(a for member in members if member.network == client.network for a in member.addresses)

    def behind(self, client: Client, address: bytes) -> Service | None:
        """The service of a VIP: exact addresses first, then blocks, the longest prefix first."""
        exact: list[Service] = []
        blocks: list[tuple[int, Service]] = []
        for service in self._services.values():
            for found in service.addresses:
                if found.network != client.network or len(found.address) != len(address):
                    continue
                if found.length is None and found.address == address:
                    exact.append(service)
                elif found.length is not None and _within(address, found.address, found.length):
                    blocks.append((found.length, service))
        if exact:
            return _ranked(client, exact)
        own = [entry for entry in blocks if entry[1].namespace == client.namespace] or blocks
        longest = max((length for length, _ in own), default=0)
        return _ranked(client, [service for length, service in own if length == longest])

    def at(self, network: str, address: bytes) -> Workload | None:
        """The workload of an address: Pods before others, HBONE before plain; never of the host network."""
        found = [
            workload
            for workload in self._workloads.values()
            if workload.network == network
            and address in workload.addresses
            and workload.network_mode is not NetworkMode.HOST_NETWORK
        ]
        found.sort(
            key=lambda w: ("//Pod/" not in w.uid, w.tunnel_protocol is not TunnelProtocol.HBONE, w.uid)
        )
        return found[0] if found else None

    # -- the choice (§3.3, §3.4) -------------------------------------------------------------------------

    def request(self, client: Client, destination: str, port: int) -> tuple[Target, ...]:
        """Who may answer *client* at a host name or IP, with shares that sum to 1.

        Raises:
            RefusedError: the name does not resolve, or nobody can be picked.
        """
        address = parse_ip(destination)
        if address is None:
            found = self.resolve(client, destination)
            if not found:
                raise RefusedError("the name does not resolve")
            address = found[0]
        service = self.behind(client, address)
        if service is not None:
            return self._to_service(client, service, port)
        workload = self.at(client.network, address)
        if workload is None:
            raise RefusedError("unknown address: passed through as plain TCP")
        if workload.waypoint is not None:
            return self._to_waypoint(client, workload.waypoint, None, Fraction(1), f"{destination}:{port}")
        authority = f"{destination}:{port}"
        return (self._target(client, workload, None, Fraction(1), port=port, authority=authority),)

    def _to_service(self, client: Client, service: Service, port: int) -> tuple[Target, ...]:
        authority = f"{service.hostname}:{port}"
        if service.load_balancing is not None and service.load_balancing.mode is Mode.PASSTHROUGH:
            raise RefusedError("passed through as plain TCP")
        weighted = service.weighted_waypoints
        if weighted:
            total = sum(entry.weight for entry in weighted)
            return tuple(
                target
                for entry in weighted
                if entry.weight
                for target in self._to_waypoint(
                    client, entry.destination, service, Fraction(entry.weight, total), authority
                )
            )
        if service.waypoint is not None:
            return self._to_waypoint(client, service.waypoint, service, Fraction(1), authority)
        picked = self.pick(client, service, port)
        if not picked:
            raise RefusedError("no healthy endpoint")
        return tuple(
            self._target(
                client, workload, service, share, port=_port(service, workload, port), authority=authority
            )
            for workload, share in picked
        )

    def _to_waypoint(
        self,
        client: Client,
        waypoint: GatewayAddress,
        service: Service | None,
        share: Fraction,
        authority: str,
    ) -> tuple[Target, ...]:
        behind = self.gateway(client, waypoint)
        port = waypoint.hbone_mtls_port
        if isinstance(behind, Service):
            picked = self.pick(client, behind, port, waypoint=True)
            via: Service | None = behind
        else:
            picked = () if behind is None else ((behind, Fraction(1)),)
            via = None
        if not picked:
            raise RefusedError("no healthy waypoint")
        return tuple(
            self._target(
                client, workload, via, share * part, port=port, authority=authority, of=service, waypoint=True
            )
            for workload, part in picked
        )

    def pick(
        self, client: Client, service: Service, port: int, *, waypoint: bool = False
    ) -> tuple[tuple[Workload, Fraction], ...]:
        """The best-ranked usable endpoints of a service, and the share of each."""
        usable = [
            workload
            for workload in self._healthy(service)
            if _reachable(client, workload) and _listens(service, workload, port, waypoint=waypoint)
        ]
        best = _best(client, service.load_balancing, usable)
        total = sum(_capacity(workload) for workload in best)
        return tuple((workload, Fraction(_capacity(workload), total)) for workload in best)

    def _healthy(self, service: Service) -> list[Workload]:
        """The endpoints that are kept: unhealthy ones only where all are allowed."""
        balancing = service.load_balancing
        everybody = balancing is not None and balancing.health_policy is HealthPolicy.ALLOW_ALL
        members = sorted(self._members[service.resource_name], key=lambda workload: workload.uid)
        return [found for found in members if everybody or found.status is WorkloadStatus.HEALTHY]

    def gateway(self, client: Client, gateway: GatewayAddress) -> Service | Workload | None:
        """What a waypoint's or network gateway's address leads to."""
        match gateway.destination:
            case NetworkAddress(network, address):
                service = self.behind(client, address) if network == client.network else None
                return service or self.at(network, address)
            case NamespacedHostname(namespace, hostname):
                found = self._services.get(f"{namespace}/{hostname}")
                return found or next(
                    (
                        workload
                        for workload in self._workloads.values()
                        if workload.hostname == hostname and workload.namespace == namespace
                    ),
                    None,
                )

    def _target(
        self,
        client: Client,
        workload: Workload,
        service: Service | None,
        share: Fraction,
        *,
        port: int,
        authority: str,
        of: Service | None = None,
        waypoint: bool = False,
    ) -> Target:
        sans = () if service is None else service.subject_alt_names
        if workload.network == client.network:
            if workload.tunnel_protocol is TunnelProtocol.HBONE or waypoint:
                own = tuple(sorted({*sans, identity_of(workload)}))
                return Target(workload, share, HBONE, port, authority, own, waypoint=waypoint)
            return Target(workload, share, TCP, port, waypoint=waypoint)
        outer, problem = self._way_in(client, workload)
        if service is None or (waypoint and of is None):
            problem = "another network is reached by services only"
        elif not problem and not sans:
            problem = "the service lists no identity: the inner tunnel is refused"
        return Target(workload, share, DOUBLE_HBONE, 0, authority, sans, outer, waypoint, problem)

    def _way_in(self, client: Client, workload: Workload) -> tuple[tuple[str, ...], str]:
        """The identities of the gateway before a workload of another network, or what is missing."""
        if workload.network_gateway is None:
            return (), "no valid destination: another network, and no gateway"
        gateway = self.gateway(client, workload.network_gateway)
        if gateway is None:
            return (), "network gateway not found"
        if isinstance(gateway, Workload):
            return (identity_of(gateway),), ""
        members = [identity_of(member) for member in self._members[gateway.resource_name]]
        return tuple(sorted({*gateway.subject_alt_names, *members})), ""


def _ranked(client: Client, found: list[Service]) -> Service | None:
    """Of services that could be meant: visible ones, the client's own namespace, canonical, the first."""
    visible = [
        service
        for service in found
        if service.visibility is Visibility.PUBLIC or service.namespace == client.namespace
    ]
    visible.sort(key=lambda s: (s.namespace != client.namespace, not s.canonical, s.resource_name))
    return visible[0] if visible else None


def _within(address: bytes, block: bytes, length: int) -> bool:
    shift = 8 * len(block) - length
    return int.from_bytes(address) >> shift == int.from_bytes(block) >> shift


def _capacity(workload: Workload) -> int:
    return 1 if workload.capacity is None else workload.capacity


def _reachable(client: Client, workload: Workload) -> bool:
    """Without address and host name only another network's gateway leads there."""
    if workload.addresses or workload.hostname:
        return True
    return workload.network != client.network and workload.network_gateway is not None


def _entry(service: Service, workload: Workload, port: int) -> Port | None:
    """The endpoint's own word on a port of the service."""
    for entry in workload.services:
        if entry.service == service.resource_name:
            return next((found for found in entry.ports if found.service_port == port), None)
    return None


def _listens(service: Service, workload: Workload, port: int, *, waypoint: bool) -> bool:
    known = next((found for found in service.ports if found.service_port == port), None)
    if waypoint:
        return known is not None or workload.application_tunnel is not None
    if known is None:
        return False
    # With a target of the service's own the endpoint is not asked: it counts even if it lacks the port.
    return bool(known.target_port) or _entry(service, workload, port) is not None


def _port(service: Service, workload: Workload, port: int) -> int:
    """The endpoint's mapping wins over the service's target."""
    own = _entry(service, workload, port)
    if own is not None and own.target_port:
        return own.target_port
    return next((found.target_port for found in service.ports if found.service_port == port), port)


def _best(client: Client, balancing: LoadBalancing | None, found: list[Workload]) -> list[Workload]:
    preferences = () if balancing is None else balancing.routing_preference
    mode = Mode.UNSPECIFIED if balancing is None else balancing.mode
    if mode is Mode.STRICT:
        return [workload for workload in found if _leading(client, workload, preferences) == len(preferences)]
    if mode is not Mode.FAILOVER or not found:
        return found
    ranks = [_rank(client, workload, preferences) for workload in found]
    best = max(ranks)
    return [workload for workload, rank in zip(found, ranks, strict=True) if rank == best]


def _rank(client: Client, workload: Workload, preferences: tuple[Scope, ...]) -> int:
    if preferences[:1] != (Scope.NETWORK,):
        return _leading(client, workload, preferences)
    rest = preferences[1:]
    base = len(preferences) if workload.network == client.network else 0
    return base + _leading(client, workload, rest)


def _leading(client: Client, workload: Workload, preferences: tuple[Scope, ...]) -> int:
    there = workload.locality or Locality()
    for count, scope in enumerate(preferences):
        match scope:
            case Scope.REGION:
                same = client.locality.region == there.region
            case Scope.ZONE:
                same = client.locality.zone == there.zone
            case Scope.SUBZONE:
                same = client.locality.subzone == there.subzone
            case Scope.NODE:
                same = client.node == workload.node
            case Scope.CLUSTER:
                same = client.cluster == workload.cluster_id
            case Scope.NETWORK:
                same = client.network == workload.network
        if not same:
            return count
    return len(preferences)
