"""Services, from Services and ServiceEntries, and which of several of one host name is served (§4.4)."""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from peerd.model.address import AppProtocol, NetworkAddress, Port, parse_ip
from peerd.model.kube.core import Service, ServicePort
from peerd.model.kube.istio import ServiceEntry
from peerd.model.kube.meta import KubeObject
from peerd.model.record import Record
from peerd.model.service import HealthPolicy, LoadBalancing, Mode, Scope
from peerd.model.service import Service as WireService
from tests.support.istiod_model.objects import Held, annotations
from tests.support.istiod_model.waypoints import Waypoints

_PROTOCOLS = {
    "http": AppProtocol.HTTP11,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    "tcp": AppProtocol.TCP,
}
_SERVER_FIRST = {25, 53, 3306, 27017}
_CLOSE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE), Mode.FAILOVER)
_NODE = LoadBalancing((Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE), Mode.FAILOVER)
_DISTRIBUTIONS = {"preferclose": _CLOSE, "prefersamezone": _CLOSE, "prefersamenode": _NODE}
_PASSTHROUGH = LoadBalancing((), Mode.PASSTHROUGH, HealthPolicy.ALLOW_ALL)


class Definition(Record, frozen=True):
    """A service, from whatever object, with what finds its endpoints.

    `port_names` are of each port its name and its named target.
    """

    service: WireService
    from_service: bool
    created: str
    object_name: str
    selector: tuple[tuple[str, str], ...]
    port_names: tuple[tuple[str, str], ...]


def served(held: Held, waypoints: Waypoints, domain: str) -> list[Definition]:
    """In each namespace a Service wins over ServiceEntries, of these the oldest; one is canonical."""
    by_host: dict[str, list[Definition]] = defaultdict(list)
    for service in held.all(Service):
        if service.spec.type != "ExternalName":
            found = _of_service(held, waypoints, service, domain)
            by_host[found.service.hostname].append(found)
    for entry in held.all(ServiceEntry):
        for host in entry.spec.hosts:
            by_host[host].append(_of_entry(held, waypoints, entry, host))
    kept: list[Definition] = []
    for definitions in by_host.values():
        definitions.sort(key=lambda d: (not d.from_service, d.created, d.service.namespace, d.object_name))
        winners: dict[str, Definition] = {}
        for found in definitions:
            winners.setdefault(found.service.namespace, found)
        if not any(found.from_service for found in winners.values()):
            first = next(iter(winners.values()))
            canonical = msgspec.structs.replace(first.service, canonical=True)
            winners[first.service.namespace] = msgspec.structs.replace(first, service=canonical)
        kept += winners.values()
    return kept


def _of_service(held: Held, waypoints: Waypoints, service: Service, domain: str) -> Definition:
    meta, spec = service.metadata, service.spec
    texts = [text for text in spec.cluster_ips or (spec.cluster_ip,) if text not in {"", "None"}]
    if spec.internal_traffic_policy == "Local":
        balancing: LoadBalancing | None = LoadBalancing((Scope.NODE,), Mode.STRICT)
    else:
        balancing = _distribution(held, spec.traffic_distribution, service)
    if spec.publish_not_ready_addresses:
        balancing = msgspec.structs.replace(
            balancing or LoadBalancing(), health_policy=HealthPolicy.ALLOW_ALL
        )
    targets = [port.target_port or port.port for port in spec.ports]
    waypoint, weighted = waypoints.of(service)
    return Definition(
        service=WireService(
            name=meta.name,
            namespace=meta.namespace,
            hostname=f"{meta.name}.{meta.namespace}.svc.{domain}",
            addresses=_addresses(held, texts),
            ports=tuple(
                Port(port.port, target if isinstance(target, int) else 0, _protocol(port))
                for port, target in zip(spec.ports, targets, strict=True)
            ),
            waypoint=waypoint,
            weighted_waypoints=weighted,
            load_balancing=balancing,
            canonical=True,
        ),
        from_service=True,
        created=meta.creation_timestamp,
        object_name=meta.name,
        selector=tuple(sorted(spec.selector.items())),
        port_names=tuple(
            (port.name, target if isinstance(target, str) else "")
            for port, target in zip(spec.ports, targets, strict=True)
        ),
    )


def _of_entry(held: Held, waypoints: Waypoints, entry: ServiceEntry, host: str) -> Definition:
    meta, spec = entry.metadata, entry.spec
    none = spec.resolution in {"", "NONE"}
    allocated = () if none else (found.value for found in entry.status.addresses if found.host == host)
    waypoint, weighted = waypoints.of(entry)
    selector = {} if spec.workload_selector is None else spec.workload_selector.labels
    return Definition(
        service=WireService(
            name=meta.name,
            namespace=meta.namespace,
            hostname=host,
            addresses=_addresses(held, spec.addresses or allocated),
            ports=tuple(
                Port(
                    port.number,
                    port.target_port or port.number,
                    _PROTOCOLS.get(port.protocol.lower(), AppProtocol.UNKNOWN),
                )
                for port in spec.ports
            ),
            subject_alt_names=spec.subject_alt_names,
            waypoint=waypoint,
            weighted_waypoints=weighted,
            load_balancing=_PASSTHROUGH if none else _distribution(held, "", entry),
        ),
        from_service=False,
        created=meta.creation_timestamp,
        object_name=meta.name,
        selector=tuple(sorted(selector.items())),
        port_names=tuple((port.name, "") for port in spec.ports),
    )


def _addresses(held: Held, found: Iterable[str]) -> tuple[NetworkAddress, ...]:
    packed = (parse_ip(text) for text in found)
    return tuple(NetworkAddress(held.network, address) for address in packed if address is not None)


def _protocol(port: ServicePort) -> AppProtocol:
    """`appProtocol`, else the name up to its first hyphen, else the number of a server-first protocol."""
    word = (port.app_protocol or port.name).lower()
    if port.protocol == "UDP" or word.startswith("grpc-web"):
        return AppProtocol.UNKNOWN
    if word.startswith("kubernetes.io/"):
        known = {"h2c": AppProtocol.HTTP2, "ws": AppProtocol.HTTP11, "wss": AppProtocol.TLS}
        return known.get(word.partition("/")[2], AppProtocol.UNKNOWN)
    name = word.partition("-")[0]
    unsaid = AppProtocol.TCP if port.port in _SERVER_FIRST and not name else AppProtocol.UNKNOWN
    return _PROTOCOLS.get(name, unsaid)


def _distribution(held: Held, spec: str, found: KubeObject) -> LoadBalancing | None:
    """The field, else the object's annotation, else its namespace's; a word it does not know is none."""
    if spec.lower() in _DISTRIBUTIONS:
        return _DISTRIBUTIONS[spec.lower()]
    own = annotations(found).traffic_distribution
    namespace = held.namespaces.get(found.metadata.namespace)
    inherited = "" if namespace is None else namespace.metadata.annotations.traffic_distribution
    return _DISTRIBUTIONS.get((own or inherited).lower())
