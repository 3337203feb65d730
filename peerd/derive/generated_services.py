"""ServiceEntries of global names (decisions D25, D26, D28, D38; docs/beside-istiod.md).

One stands for a service with all host names that lead to the same endpoints. A local host name that only some
peers may answer to (D23), and a name of another segment, have one of their own.
"""

from collections.abc import Mapping

import msgspec

from peerd.derive import labels
from peerd.derive.distribution import LOCAL_NODE
from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.generated_names import (
    ENTRY_LABEL,
    LOCAL,
    LOCAL_ENTRY_LABEL,
    label_value,
    service_entry_name,
)
from peerd.derive.generated_places import Place, Places
from peerd.derive.global_names import GlobalName, target_port
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.segments import Segments
from peerd.derive.services import SERVICE_ENTRY, ServiceInfo, hostname
from peerd.model.address import AppProtocol
from peerd.model.diagnostic import Diagnostic
from peerd.model.generated import GeneratedPort, GeneratedServiceEntry
from peerd.model.kube.core import Service
from peerd.model.mesh import Settings
from peerd.model.record import Record

DISTRIBUTION = "networking.istio.io/traffic-distribution"
CANARY_WEIGHT = "istio.io/use-waypoint-canary-weight"

# Istiod knows no PreferNetwork and no PreferRegion (decision D26); Any ends its search at the entry.
_DISTRIBUTIONS = {"preferclose": "PreferClose", "prefersamezone": "PreferClose",
                  "prefersamenode": "PreferSameNode", "any": "Any"}  # fmt: skip
_UNKNOWN_TO_ISTIOD = {"prefernetwork", "preferregion"}
_PROTOCOLS = {
    AppProtocol.HTTP11: "HTTP",
    AppProtocol.HTTP2: "HTTP2",
    AppProtocol.GRPC: "GRPC",
    AppProtocol.TCP: "TCP",
    AppProtocol.TLS: "TLS",
}
# By these a proxy knows which of several hosts is meant. Istiod's webhook refuses an entry of several hosts
# that has any other port, one without a protocol included.
_TELLING = frozenset({"HTTP", "HTTP2", "GRPC", "TLS"})
_WAYPOINT_LABELS = (
    labels.USE_WAYPOINT,
    labels.USE_WAYPOINT_NAMESPACE,
    labels.CANARY,
    labels.CANARY_NAMESPACE,
    labels.INGRESS_USE_WAYPOINT,
)


class Target(Record, frozen=True):
    """What a WorkloadEntry must be to be an endpoint of a host: where it lies, its labels, and its ports.

    `ports` are number, name and target of each.
    """

    namespace: str
    selector: labels.Labels
    ports: tuple[GeneratedPort, ...]


class _Host(Record, frozen=True):
    """A host name that is generated. `role` is empty for our own domain, LOCAL, or what tells it apart."""

    service: str
    role: str
    name: GlobalName
    alias: bool = False


class _Group(Record, frozen=True):
    """What one service comes to: its entries, and for each host's resource name what endpoints need.

    `own` is the kind of our object behind it, empty where there is none; `apart` are aliases of our own that
    not all clusters have.
    """

    entries: tuple[GeneratedServiceEntry, ...]
    targets: tuple[tuple[str, Target], ...]
    place: Place
    own: str
    apart: tuple[str, ...] = ()


class GeneratedServices:
    """ServiceEntries under `ServiceEntry/<namespace>/<name>`, targets under a host's `<namespace>/<host>`."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        segments: Segments,
        namespaces: Input[str, NamespaceFacts],
        objects: Input[str, Service],
        names: GlobalServices,
        hostnames: Hostnames,
        places: Places,
    ) -> None:
        self._settings = settings
        self._segments = segments
        self._namespaces = namespaces
        self._objects = objects
        self._names = names
        self._hostnames = hostnames
        self._places = places
        hosts = engine.derive("generated hosts", names.names, self._host, joined=(hostnames.table,))
        by_service = engine.index("generated hosts by service", hosts, lambda _key, host: (host.service,))
        groups = engine.derive("generated groups", by_service, self._group)
        self.table = engine.derive_many("generated service entries", groups, _entries)
        self.targets: Collection[str, Target] = engine.derive_many("generated targets", groups, _targets)
        self.diagnostics = engine.derive_many("diagnostics of what is generated", groups, self._diagnostics)

    def _host(self, ctx: Context, _key: str, name: GlobalName) -> _Host | None:
        if ctx.same(self._hostnames.table) is not None:
            return None  # an object of the cluster has that name
        service, own = f"{name.namespace}/{name.name}", f"{name.name}.{name.namespace}."
        if name.host == hostname(name.name, name.namespace, self._settings.domain):
            return _Host(service, LOCAL, name)
        if not name.host.startswith(own):
            return _Host(service, name.host, name, alias=True)
        domain = name.host.removeprefix(own)
        return _Host(service, "" if domain == self._segments.of(ctx).domain else domain, name)

    def _group(self, ctx: Context, service: str, hosts: tuple[_Host, ...]) -> _Group:
        by_role = {host.role: host for host in hosts}
        main = by_role.get("")
        joined = sorted(
            (host for host in hosts if main is not None and host.role and self._alike(ctx, main, host)),
            key=lambda host: (host.role != LOCAL, host.name.host),
        )
        entries: list[GeneratedServiceEntry] = []
        targets: list[tuple[str, Target]] = []
        apart: list[str] = []
        for role in sorted(by_role.keys() - {host.role for host in joined}):
            host = by_role[role]
            own = self._own(ctx, host.name)
            # Two entries with one selector would share all endpoints, whichever name their clusters serve.
            place = self._places.of(ctx, service, own=own is not None and host is main)
            served = (host, *(joined if host is main else ()))
            entry = self._entry(ctx, host, own, place, served)
            if own is not None and host is not main:
                apart.append(host.name.host)
            entries += _admitted(entry, served)
            target = Target(entry.namespace, entry.selector, entry.ports)
            targets += [(each.name.key, target) for each in served if place.tied]
        info = None if main is None else self._own(ctx, main.name)
        place = self._places.of(ctx, service, own=info is not None)
        return _Group(
            tuple(entries), tuple(targets), place, "" if info is None else info.source, tuple(apart)
        )

    def _alike(self, ctx: Context, main: _Host, other: _Host) -> bool:
        """Whether both names lead to the same endpoints, the same way: clusters, ports, distribution."""
        contributions = self._names.contributions
        names = main.name, other.name
        mine, theirs = ({found.peer for found in ctx.find(contributions, name.key)} for name in names)
        words = {self._distribution(ctx, name, self._own(ctx, name)) for name in names}
        return (
            mine == theirs
            and len(words) == 1
            and main.name.ports == other.name.ports
            and main.name.everywhere == other.name.everywhere
        )

    def _own(self, ctx: Context, name: GlobalName) -> ServiceInfo | None:
        """Our Service behind the name."""
        if not name.own:
            return None
        scoped = ctx.get(self._names.scoped, f"{name.namespace}/{name.name}")
        if scoped is None or scoped.contribution is None:
            return None
        return scoped.info if name.host in {scoped.contribution.host, *scoped.aliases} else None

    def _entry(
        self, ctx: Context, host: _Host, own: ServiceInfo | None, place: Place, served: tuple[_Host, ...]
    ) -> GeneratedServiceEntry:
        name = host.name
        object_name = service_entry_name(name.namespace, name.name, host.role)
        label = LOCAL_ENTRY_LABEL if host.role == LOCAL else ENTRY_LABEL
        found, annotations = self._waypoint(ctx, own, place)
        return GeneratedServiceEntry(
            namespace=place.namespace,
            name=object_name,
            service=host.service,
            hosts=tuple(each.name.host for each in served),
            ports=entry_ports(name, own),
            selector=place.selector or ((label, label_value(object_name)),),
            subject_alt_names=name.identities,
            labels=found,
            annotations=labels.freeze({**annotations, DISTRIBUTION: self._distribution(ctx, name, own)}),
            # A peer has one global name for a service: what leads where our own does is an alias.
            aliases=tuple(
                each.name.host for each in served if each.alias or each.role not in {"", host.role, LOCAL}
            ),
        )

    def _distribution(self, ctx: Context, name: GlobalName, own: ServiceInfo | None) -> str:
        """The annotation's word: never absent, or the namespace's would count."""
        if own is not None and own.service.load_balancing == LOCAL_NODE:
            return "PreferSameNode"
        return _DISTRIBUTIONS.get(self._names.distribution(ctx, name).lower(), "PreferClose")

    def _waypoint(
        self, ctx: Context, own: ServiceInfo | None, place: Place
    ) -> tuple[labels.Labels, dict[str, str]]:
        """Labels that bind the entry to the waypoint of our Service, and to none where it has none (D30)."""
        if own is None or own.service.waypoint is None:
            return ((labels.USE_WAYPOINT, "none"),), {}
        service = ctx.get(self._objects, f"{own.object.namespace}/{own.object.name}")
        written = {} if service is None else service.metadata.labels
        weight = "" if service is None else service.metadata.known.waypoint_canary_weight
        if place.namespace != own.object.namespace and labels.USE_WAYPOINT not in written:
            written = {**self._of_namespace(ctx, own.object.namespace), **written}
        found = {label: written[label] for label in _WAYPOINT_LABELS if label in written}
        if place.namespace != own.object.namespace:
            found.setdefault(labels.USE_WAYPOINT_NAMESPACE, own.object.namespace)
        return labels.freeze(found), {CANARY_WEIGHT: weight} if weight else {}

    def _of_namespace(self, ctx: Context, namespace: str) -> Mapping[str, str]:
        facts = ctx.get(self._namespaces, namespace)
        return {} if facts is None else facts.labels

    def _diagnostics(self, ctx: Context, service: str, group: _Group) -> dict[str, Diagnostic]:
        """What is not as standalone peerd would serve it; told on our own Service."""
        if not group.own or not self._settings.generate.for_istiod:
            return {}
        where = f"{group.own}/{service}"
        told: list[Diagnostic] = []
        if group.place.problem:
            text = f"its global name has no endpoints of this cluster: {group.place.problem}"
            fix = "mend that; the endpoints of other clusters are there"
            if not group.place.tied:
                text = f"its global name has no endpoints of other clusters: {group.place.problem}"
                fix = "select its endpoints by a global Service instead; those of this cluster are there"
            told.append(warning(where, "spec.selector", text, fix))
        if group.apart:
            told.append(
                warning(
                    where,
                    "metadata.labels",
                    f"{', '.join(group.apart)} has no endpoints of this cluster: not every cluster that"
                    " serves it has that name",
                    "give all of them the same aliases, or use the global name",
                )
            )
        found = ctx.get(self._objects, service)
        word = "" if found is None else found.spec.traffic_distribution
        word = word or ("" if found is None else found.metadata.known.traffic_distribution)
        if word.lower() in _UNKNOWN_TO_ISTIOD:
            fix = "write PreferClose to have what is served"
            told.append(
                warning(where, "spec.trafficDistribution", f"istiod serves {word} as PreferClose", fix)
            )
        if found is not None and found.spec.internal_traffic_policy == "Local":
            text = "Local cannot be said of a ServiceEntry: its global name prefers the own node, no more"
            told.append(
                warning(where, "spec.internalTrafficPolicy", text, "use the ordinary name on the node")
            )
        return keyed(told, "generated")


def _admitted(entry: GeneratedServiceEntry, served: tuple[_Host, ...]) -> tuple[GeneratedServiceEntry, ...]:
    """*entry*, or where istiod would refuse it for its several hosts, its like for each of them."""
    if len(served) == 1 or all(port.protocol in _TELLING for port in entry.ports):
        return (entry,)
    first, *others = served
    return (
        msgspec.structs.replace(entry, hosts=(first.name.host,)),
        *(
            msgspec.structs.replace(
                entry,
                name=service_entry_name(each.name.namespace, each.name.name, each.role),
                hosts=(each.name.host,),
                aliases=(),
            )
            for each in others
        ),
    )


def entry_ports(name: GlobalName, own: ServiceInfo | None) -> tuple[GeneratedPort, ...]:
    """The ports of a name's ServiceEntry: those that every cluster has, or the oldest's where there is none.

    Istiod maps a Pod's port by its container's port of the same name, else by the target. A Service's named
    target, and a user's ServiceEntry's own name for the port, is therefore the port's name; any other name is
    longer than a container port's may be, so that none matches.
    """
    common = [port for port in name.ports if port.number in name.everywhere] or name.ports
    written = {} if own is None else dict(zip(_numbers(own), own.port_names, strict=True))
    ports: list[GeneratedPort] = []
    taken: set[str] = set()
    for port in common:
        port_name, target_name = written.get(port.number, ("", ""))
        if own is not None and own.source == SERVICE_ENTRY:
            chosen, target = port_name, target_port(port, own)  # as its own hosts map theirs
        else:
            chosen, target = target_name, 0 if target_name else target_port(port, own)
        if chosen in taken:  # two ports of one name are no ServiceEntry
            chosen, target = "", target_port(port, own)
        taken.add(chosen)
        ports.append(
            GeneratedPort(
                number=port.number,
                name=chosen or f"global-service-port-{port.number}",
                protocol=_PROTOCOLS.get(port.app_protocol, ""),
                target=0 if target == port.number else target,
            )
        )
    return tuple(ports)


def _numbers(info: ServiceInfo) -> tuple[int, ...]:
    return tuple(port.service_port for port in info.service.ports)


def _entries(_ctx: Context, _service: str, group: _Group) -> dict[str, GeneratedServiceEntry]:
    return {f"ServiceEntry/{entry.namespace}/{entry.name}": entry for entry in group.entries}


def _targets(_ctx: Context, _service: str, group: _Group) -> dict[str, Target]:
    return dict(group.targets)
