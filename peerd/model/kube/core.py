"""Kinds of the core and discovery API groups."""

import msgspec

from peerd.model.kube.meta import (
    Annotations,
    ConditionsStatus,
    KubeObject,
    KubeRecord,
    ObjectMeta,
    TargetReference,
)


class Namespace(KubeObject, frozen=True):
    """Labels bind waypoints, scope and network."""


class NodeAddress(KubeRecord, frozen=True):
    """One address of a Node."""

    type: str = ""
    address: str = ""


class NodeStatus(KubeRecord, frozen=True):
    """Only the addresses."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(KubeObject, frozen=True):
    """Labels carry locality; addresses serve the NodePort data plane."""

    status: NodeStatus = NodeStatus()


class ConfigMap(KubeObject, frozen=True):
    """Only the mesh configuration is read (decision D6)."""

    data: dict[str, str] = {}


class ContainerPort(KubeRecord, frozen=True):
    """A named port that a Service may target."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class Container(KubeRecord, frozen=True):
    """Only its ports, and whether an init container is a native sidecar (`restartPolicy: Always`)."""

    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(KubeRecord, frozen=True):
    """Where and as whom the Pod runs."""

    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class Condition(KubeRecord, frozen=True):
    """One status condition."""

    type: str = ""
    status: str = ""


class PodIP(KubeRecord, frozen=True):
    """One address of a Pod."""

    ip: str = ""


class PodStatus(KubeRecord, frozen=True):
    """Phase, addresses, readiness."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())
    conditions: tuple[Condition, ...] = ()


class Pod(KubeObject, frozen=True):
    """One workload of the cluster."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ServicePort(KubeRecord, frozen=True):
    """`target_port` is a number, a port name, or 0 where it is the port itself."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(KubeRecord, frozen=True):
    """Addresses, ports, selector, distribution."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    ip_families: tuple[str, ...] = ()
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    publish_not_ready_addresses: bool = False


class ServiceMeta(ObjectMeta, frozen=True):
    """Of a Service all annotations are kept: templates of aliases name any (`known` has those of ours)."""

    annotations: dict[str, str] = {}  # type: ignore[assignment]

    @property
    def known(self) -> Annotations:
        """The annotations that peerd reads."""
        return msgspec.convert(self.annotations, Annotations)


class Service(KubeObject, frozen=True):
    """A Kubernetes Service (the wire's Service is peerd.model.service)."""

    metadata: ServiceMeta = ServiceMeta()
    spec: ServiceSpec = ServiceSpec()
    status: ConditionsStatus = ConditionsStatus()


class EndpointConditions(KubeRecord, frozen=True):
    """Absent readiness means ready."""

    ready: bool | None = None


class Endpoint(KubeRecord, frozen=True):
    """Addresses behind a slice entry, and the Pod they belong to."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetReference | None = None
    node_name: str = ""
    zone: str = ""


class EndpointPort(KubeRecord, frozen=True):
    """A port of all endpoints of a slice."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(KubeObject, frozen=True):
    """Endpoints of the Service named by label `kubernetes.io/service-name`."""

    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
