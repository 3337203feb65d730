"""Kinds of the Gateway API: waypoints, network gateways, peers."""

import msgspec

from peerd.model.kube.meta import ConditionsStatus, KubeObject, KubeRecord, StatusCondition


class GatewayAddressField(KubeRecord, frozen=True):
    """An entry of `spec.addresses` or `status.addresses`; type is IPAddress or Hostname."""

    value: str = ""
    type: str = ""


class RouteNamespaces(KubeRecord, frozen=True):
    """Which namespaces may attach; `from` is a Python keyword. An empty selector is none the less one."""

    from_: str = msgspec.field(name="from", default="Same")
    selector: dict[str, object] | None = None


class AllowedRoutes(KubeRecord, frozen=True):
    """Default: the Gateway's own namespace."""

    namespaces: RouteNamespaces = RouteNamespaces()


class ListenerTls(KubeRecord, frozen=True):
    """TLS mode and options of a listener."""

    mode: str = ""
    options: dict[str, str] = {}


class Listener(KubeRecord, frozen=True):
    """One port of a Gateway."""

    name: str = ""
    port: int = 0
    protocol: str = ""
    tls: ListenerTls = ListenerTls()
    allowed_routes: AllowedRoutes = AllowedRoutes()


class ParametersReference(KubeRecord, frozen=True):
    """Where the parameters of a Gateway are."""

    group: str = ""
    kind: str = ""
    name: str = ""


class Infrastructure(KubeRecord, frozen=True):
    """How a Gateway is to be run; labels and annotations are for all that is made for it."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    parameters_ref: ParametersReference | None = None


class GatewaySpec(KubeRecord, frozen=True):
    """Class, listeners, wanted addresses, how it is run."""

    gateway_class_name: str = ""
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[GatewayAddressField, ...] = ()
    infrastructure: Infrastructure = Infrastructure()


class GatewayStatus(KubeRecord, frozen=True):
    """Addresses a controller gave, and what controllers say."""

    addresses: tuple[GatewayAddressField, ...] = ()
    conditions: tuple[StatusCondition, ...] = ()


class Gateway(KubeObject, frozen=True):
    """A waypoint, an east-west gateway, or with class `istio-remote` a peer."""

    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus = GatewayStatus()


class GatewayClassSpec(KubeRecord, frozen=True):
    """Which controller serves the class."""

    controller_name: str = ""


class GatewayClass(KubeObject, frozen=True):
    """Its labels give defaults for `istio.io/waypoint-for`."""

    spec: GatewayClassSpec = GatewayClassSpec()
    status: ConditionsStatus = ConditionsStatus()
