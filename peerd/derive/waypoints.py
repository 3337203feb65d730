"""Waypoints: which Gateways are some, who is bound to one, what their own Pods say (wire-contract §4.5)."""

from collections.abc import Mapping

import msgspec

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, keyed, name_of, warning
from peerd.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.gateway import Gateway, GatewayClass, Listener, RouteNamespaces
from peerd.model.kube.meta import KubeRecord
from peerd.model.mesh import LabelRequirement, Selector
from peerd.model.record import Record
from peerd.model.service import WeightedWaypoint
from peerd.model.workload import ApplicationTunnel, ApplicationTunnelProtocol

HBONE_PORT = 15008

# Services of waypoints and east-west gateways never have a waypoint themselves (wire-contract §4.5).
MANAGED_GATEWAYS = {"istio.io-mesh-controller", "istio.io-eastwest-controller"}

_SERVICE_TRAFFIC = {"service", "all"}
_WORKLOAD_TRAFFIC = {"workload", "all"}


class Waypoint(Record, frozen=True):
    """A Gateway with status addresses. `traffic` is service, workload, all, or anything else for nobody.

    `tunnel` is what its own Pods expect inbound; `attach_from` is Same, All or Selector.
    """

    namespace: str
    name: str
    address: GatewayAddress | None
    traffic: str
    attach_from: str
    attach_selector: Selector | None
    tunnel: ApplicationTunnel | None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Binding(Record, frozen=True):
    """What an object's waypoint labels come to; a problem where they come to nothing though one was named."""

    waypoint: Waypoint | None = None
    problem: str = ""
    field: str = f"metadata.labels[{labels.USE_WAYPOINT}]"


_UNBOUND = Binding()


class _Requirement(KubeRecord, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class _Selector(KubeRecord, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[_Requirement, ...] = ()


def gateway_address(gateway: Gateway, network: str) -> GatewayAddress | None:
    """Where a waypoint is reached: its first host name, else its first IP; always port 15008."""
    for address in gateway.status.addresses:
        if address.type == "Hostname" and address.value:
            return GatewayAddress(NamespacedHostname(gateway.metadata.namespace, address.value), HBONE_PORT)
    for address in gateway.status.addresses:
        ip = pack(address.value) if address.type == "IPAddress" else None
        if ip is not None:
            return GatewayAddress(NetworkAddress(network, ip), HBONE_PORT)
    return None


def inbound_binding(gateway: Gateway, gateway_class: GatewayClass | None) -> ApplicationTunnel | None:
    """`PROTOCOL` or `PROTOCOL/port` of annotation `ambient.istio.io/waypoint-inbound-binding`.

    The Gateway's wins over its class's; what cannot be read is no binding, a bad port is port 0.
    """
    text = gateway.metadata.annotations.waypoint_inbound_binding
    if not text and gateway_class is not None:
        text = gateway_class.metadata.annotations.waypoint_inbound_binding
    protocol, _, port = text.partition("/")
    if protocol not in {"NONE", "PROXY"} or "/" in port:
        return None
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 10 else 0
    return ApplicationTunnel(ApplicationTunnelProtocol[protocol], number if number < 1 << 32 else 0)


def attachment(gateway: Gateway, tunnel: ApplicationTunnel | None) -> tuple[str, Selector | None]:
    """Who may attach: `allowedRoutes` of the listener that the binding names, else of HBONE 15008.

    Without such a listener: the Gateway's own namespace.
    """
    listener = _bound_listener(gateway, tunnel)
    if listener is None:
        return "Same", None
    namespaces = listener.allowed_routes.namespaces
    if namespaces.from_ != "Selector":
        return namespaces.from_, None
    return "Selector", _route_selector(namespaces)


def _bound_listener(gateway: Gateway, tunnel: ApplicationTunnel | None) -> Listener | None:
    if tunnel is not None:
        for listener in gateway.spec.listeners:
            if tunnel.port:
                if listener.port == tunnel.port:
                    return listener
            elif tunnel.protocol is ApplicationTunnelProtocol.PROXY and listener.protocol == "istio.io/PROXY":
                return listener
    for listener in gateway.spec.listeners:
        if listener.protocol == "HBONE" and listener.port == HBONE_PORT:
            return listener
    return None


def _route_selector(namespaces: RouteNamespaces) -> Selector | None:
    """The selector of `from: Selector`; None (nobody) where it is missing or cannot be read.

    One that is there and empty takes every namespace, as Kubernetes has it.
    """
    if namespaces.selector is None:
        return None
    try:
        found = msgspec.convert(namespaces.selector, _Selector)
    except msgspec.ValidationError:
        return None
    return Selector(
        labels.freeze(found.match_labels),
        tuple(LabelRequirement(e.key, e.operator, e.values) for e in found.match_expressions),
    )


def _named(found: Mapping[str, str], name: str, namespace: str, default: str) -> str | None:
    return f"{found.get(namespace, default)}/{found[name]}" if name in found else None


class Waypoints:
    """All waypoints of the cluster, and who is bound to which."""

    def __init__(
        self,
        engine: Engine,
        mesh: Mesh,
        namespaces: Input[str, NamespaceFacts],
        gateways: Input[str, Gateway],
        classes: Input[str, GatewayClass],
    ) -> None:
        self._mesh = mesh
        self._namespaces = namespaces
        self._classes = classes
        self.table = engine.derive("waypoints", gateways, self._waypoint)
        self.diagnostics = engine.derive_many("waypoint diagnostics", gateways, self._diagnostics)

    def _waypoint(self, ctx: Context, _key: str, gateway: Gateway) -> Waypoint | None:
        """Any Gateway with status addresses is a waypoint.

        Its traffic is `istio.io/waypoint-for` of the Gateway, else of its class, else service.
        """
        meta = gateway.metadata
        if not gateway.status.addresses or not ctx.ask(self._mesh.selected, meta.namespace):
            return None
        gateway_class = ctx.get(self._classes, gateway.spec.gateway_class_name)
        traffic = (
            "service"
            if gateway_class is None
            else gateway_class.metadata.labels.get(labels.WAYPOINT_FOR, "service")
        )
        tunnel = inbound_binding(gateway, gateway_class)
        attach_from, selector = attachment(gateway, tunnel)
        return Waypoint(
            namespace=meta.namespace,
            name=meta.name,
            address=gateway_address(gateway, self._mesh.of(ctx).network),
            traffic=meta.labels.get(labels.WAYPOINT_FOR, traffic),
            attach_from=attach_from,
            attach_selector=selector,
            tunnel=tunnel,
        )

    def _diagnostics(self, ctx: Context, key: str, gateway: Gateway) -> dict[str, Diagnostic]:
        waypoint = ctx.get(self.table, key)
        where = name_of("Gateway", gateway)
        found: list[Diagnostic] = []
        binding = gateway.metadata.annotations.waypoint_inbound_binding
        if waypoint is None:
            return {}
        if waypoint.address is None:
            found.append(
                error(
                    where,
                    "status.addresses",
                    "holds no IP address and no host name",
                    "give it an address of type IPAddress or Hostname",
                )
            )
        port = binding.partition("/")[2]
        if binding and (waypoint.tunnel is None or (port and not waypoint.tunnel.port)):
            field = "metadata.annotations[ambient.istio.io/waypoint-inbound-binding]"
            found.append(
                error(where, field, f"{binding!r} is no binding", "write NONE, PROXY or PROXY/<port>")
            )
        return keyed(found)

    def _allows(self, ctx: Context, waypoint: Waypoint, namespace: str) -> bool:
        if waypoint.attach_from == "All":
            return True
        if waypoint.attach_from == "Selector":
            facts = ctx.get(self._namespaces, namespace)
            found = {} if facts is None else facts.labels
            return waypoint.attach_selector is not None and labels.matches(waypoint.attach_selector, found)
        return waypoint.namespace == namespace

    def _target(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> Binding:
        """`istio.io/use-waypoint` of the object, else of its namespace; `none` opts out.

        An object's own label that leads nowhere does not fall back to the namespace's.
        """
        if found.get(labels.USE_WAYPOINT) == "none":
            return _UNBOUND
        name = _named(found, labels.USE_WAYPOINT, labels.USE_WAYPOINT_NAMESPACE, namespace)
        if name is None:
            facts = ctx.get(self._namespaces, namespace)
            if facts is None or facts.labels.get(labels.USE_WAYPOINT) == "none":
                return _UNBOUND
            name = _named(facts.labels, labels.USE_WAYPOINT, labels.USE_WAYPOINT_NAMESPACE, namespace)
            if name is None:
                return _UNBOUND
        return self._resolve(ctx, name, namespace)

    def _resolve(self, ctx: Context, name: str, namespace: str) -> Binding:
        waypoint = ctx.get(self.table, name)
        if waypoint is None:
            return Binding(None, f"waypoint {name} does not exist or has no address yet")
        if not self._allows(ctx, waypoint, namespace):
            return Binding(None, f"waypoint {name} does not allow namespace {namespace} (allowedRoutes)")
        return Binding(waypoint)

    def for_service(
        self, ctx: Context, namespace: str, found: Mapping[str, str], *, private: bool = False
    ) -> Binding:
        """The waypoint of a Service or ServiceEntry with labels *found*.

        A *private* one, that other namespaces must not see, has no waypoint in another namespace.
        """
        if found.get(labels.GATEWAY_MANAGED) in MANAGED_GATEWAYS:
            return _UNBOUND
        binding = _if_serves(self._target(ctx, namespace, found), _SERVICE_TRAFFIC, "services")
        waypoint = binding.waypoint
        if private and waypoint is not None and waypoint.namespace != namespace:
            return Binding(None, f"waypoint {waypoint} would show it to another namespace than its own")
        return binding

    def for_workload(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> Binding:
        """The waypoint of a workload; one inherited from the namespace that is for services is no problem."""
        binding = _if_serves(self._target(ctx, namespace, found), _WORKLOAD_TRAFFIC, "workloads")
        return binding if labels.USE_WAYPOINT in found or binding.waypoint is not None else _UNBOUND

    def instance(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> Waypoint | None:
        """The waypoint that a workload is an instance of: label `gateway.networking.k8s.io/gateway-name`."""
        name = found.get(labels.GATEWAY_NAME)
        return ctx.get(self.table, f"{namespace}/{name}") if name else None

    def ingress(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> bool:
        """`istio.io/ingress-use-waypoint` of the service, else of its namespace."""
        value = found.get(labels.INGRESS_USE_WAYPOINT)
        if value is None:
            facts = ctx.get(self._namespaces, namespace)
            value = "" if facts is None else facts.labels.get(labels.INGRESS_USE_WAYPOINT, "")
        return labels.is_true(value)

    def weighted(
        self, ctx: Context, namespace: str, found: Mapping[str, str], weight: str, primary: Waypoint | None
    ) -> tuple[tuple[WeightedWaypoint, ...], Binding]:
        """Canary: primary with 100 - weight, canary with weight.

        The canary's label and weight come from the namespace only where the primary did. A canary that
        leads nowhere leaves the primary alone, and the binding says why. No primary, no canary.
        """
        if primary is None:
            return (), _UNBOUND
        labelled: Mapping[str, str] = found
        if labels.USE_WAYPOINT not in found:
            facts = ctx.get(self._namespaces, namespace)
            if facts is not None:
                weight = weight or facts.canary_weight
                if labels.CANARY not in found:
                    labelled = facts.labels
        if labelled.get(labels.CANARY, "") in {"", "none"}:
            return (), _UNBOUND
        name = _named(labelled, labels.CANARY, labels.CANARY_NAMESPACE, namespace) or ""
        canary, share = self._canary(ctx, namespace, name, primary), _weight(weight)
        if share is None:
            field = "metadata.annotations[istio.io/use-waypoint-canary-weight]"
            return (), Binding(None, f"{weight!r} is no whole number from 0 to 100", field)
        if canary.waypoint is None or canary.waypoint.address is None or primary.address is None:
            problem = canary.problem or f"waypoint {name} or {primary} has no address yet"
            return (), Binding(None, problem, f"metadata.labels[{labels.CANARY}]")
        return (
            WeightedWaypoint(primary.address, 100 - share),
            WeightedWaypoint(canary.waypoint.address, share),
        ), _UNBOUND

    def _canary(self, ctx: Context, namespace: str, name: str, primary: Waypoint) -> Binding:
        if name == str(primary):
            return Binding(None, f"waypoint {name} is canary and primary at once")
        return _if_serves(self._resolve(ctx, name, namespace), _SERVICE_TRAFFIC, "services")


def _if_serves(binding: Binding, traffic: set[str], what: str) -> Binding:
    waypoint = binding.waypoint
    if waypoint is None or waypoint.traffic in traffic:
        return binding
    return Binding(None, f"waypoint {waypoint} is for {waypoint.traffic!r}, not for {what}")


def _weight(text: str) -> int | None:
    """A canary weight: absent is 0, and None is what Go's Atoi or the range refuses."""
    if not text:
        return 0
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        return None
    number = int(digits)
    return number if number <= 100 else None


def binding_diagnostics(where: str, *bindings: Binding) -> tuple[Diagnostic, ...]:
    """What to tell the owner of an object whose waypoint labels lead nowhere."""
    return tuple(
        warning(
            where, binding.field, binding.problem, "mend the label, or the waypoint; traffic goes without it"
        )
        for binding in bindings
        if binding.problem
    )
