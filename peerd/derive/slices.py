"""EndpointSlices: endpoints that are no Pods, and Pods that no selector finds (wire-contract §4.3)."""

from collections.abc import Iterable

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import Mesh
from peerd.derive.problems import error, keyed, name_of
from peerd.derive.services import SERVICE, ServiceInfo, hostname, valid_port
from peerd.model.address import Port
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import Endpoint, EndpointSlice
from peerd.model.record import Record
from peerd.model.workload import NetworkMode, ServicePorts, Workload, WorkloadStatus, WorkloadType


class PodReference(Record, frozen=True):
    """A Pod (by its key and uid) that a slice names as an endpoint of `<namespace>/<service>`."""

    pod: str
    uid: str
    namespace: str
    service: str


def is_pod(endpoint: Endpoint) -> bool:
    """Whether the endpoint is a Pod, of which the Pod object itself says more."""
    return endpoint.target_ref is not None and endpoint.target_ref.kind == "Pod"


def slice_ports(found: EndpointSlice, info: ServiceInfo) -> ServicePorts:
    """TCP ports of a slice, joined with the Service's by name."""
    numbers: dict[str, int] = {}
    for port, (name, _) in zip(info.service.ports, info.port_names, strict=True):
        numbers.setdefault(name, port.service_port)
    return ServicePorts(
        info.key,
        tuple(
            Port(numbers[port.name], port.port)
            for port in found.ports
            if port.protocol == "TCP" and port.name in numbers and valid_port(port.port)
        ),
    )


def check(found: EndpointSlice) -> tuple[Diagnostic, ...]:
    """Addresses of endpoints that are none."""
    if found.address_type == "FQDN":
        return ()
    where = name_of("EndpointSlice", found)
    return tuple(
        error(where, f"endpoints[{at}].addresses", f"{text!r} is no IP address", "write one, or remove it")
        for at, endpoint in enumerate(found.endpoints)
        if not is_pod(endpoint)
        for text in endpoint.addresses
        if pack(text) is None
    )


class Slices:
    """The workloads of slices under their uid, and the Pods that slices name under the Pod's key."""

    def __init__(
        self,
        engine: Engine,
        *,
        cluster: str,
        domain: str,
        mesh: Mesh,
        hostnames: Hostnames,
        global_services: GlobalServices,
        slices: Input[str, EndpointSlice],
    ) -> None:
        self._cluster = cluster
        self._domain = domain
        self._mesh = mesh
        self._services = hostnames.table
        self._global_services = global_services
        references = engine.derive_many("pods named by slices", slices, self._references)
        self.of_pod = engine.index("slices by pod", references, lambda _key, reference: (reference.pod,))
        self.wire = engine.derive_many("slice workloads", slices, self._workloads)
        self.diagnostics = engine.derive_many(
            "slice diagnostics", slices, lambda _ctx, _key, found: keyed(check(found))
        )

    def _service(self, ctx: Context, found: EndpointSlice) -> ServiceInfo | None:
        """The Service of label `kubernetes.io/service-name`; FQDN slices have none."""
        meta = found.metadata
        name = meta.labels.get(labels.SLICE_SERVICE)
        if name is None or found.address_type == "FQDN" or not ctx.ask(self._mesh.selected, meta.namespace):
            return None
        host = hostname(name, meta.namespace, self._domain)
        info = ctx.get(self._services, f"{meta.namespace}/{host}")
        return info if info is not None and info.source == SERVICE else None

    def _references(
        self, ctx: Context, key: str, found: EndpointSlice
    ) -> dict[tuple[str, int], PodReference]:
        info = self._service(ctx, found)
        if info is None:
            return {}
        if info.selector and found.metadata.labels.get(labels.SLICE_MANAGED_BY, "").startswith(
            "endpointslice-"
        ):
            # Kubernetes' own controller put in what the selector selects, which Pods find by themselves.
            return {}
        namespace, service = info.object.namespace, info.object.name
        return {
            (key, at): PodReference(
                f"{self._cluster}//Pod/{target.namespace}/{target.name}", target.uid, namespace, service
            )
            for at, endpoint in enumerate(found.endpoints)
            if is_pod(endpoint) and (target := endpoint.target_ref) is not None
        }

    def _workloads(self, ctx: Context, _key: str, found: EndpointSlice) -> dict[str, Workload]:
        """One workload for each endpoint that is no Pod.

        Little is known of it: no identity, no policies, no locality, and it may share its address with
        others, so it counts as host network. Ready true or absent is healthy.
        """
        info = self._service(ctx, found)
        if info is None:
            return {}
        mesh = self._mesh.of(ctx)
        services = self._global_services.expand(ctx, (slice_ports(found, info),))
        meta = found.metadata
        workloads: dict[str, Workload] = {}
        for endpoint in found.endpoints:
            addresses = _packed(endpoint.addresses)
            if is_pod(endpoint) or not addresses:
                continue
            uid = (
                f"{self._cluster}/discovery.k8s.io/EndpointSlice/{meta.namespace}/{meta.name}"
                f"/{endpoint.addresses[0]}"
            )
            workloads.setdefault(
                uid,
                Workload(
                    uid=uid,
                    name=meta.name,
                    namespace=meta.namespace,
                    addresses=addresses,
                    network=mesh.network,
                    trust_domain=mesh.trust_domain,
                    workload_type=WorkloadType.DEPLOYMENT,  # istiod leaves it unset (golden: endpoint-slices)
                    status=WorkloadStatus.UNHEALTHY
                    if endpoint.conditions.ready is False
                    else WorkloadStatus.HEALTHY,
                    cluster_id=self._cluster,
                    services=services,
                    network_mode=NetworkMode.HOST_NETWORK,
                ),
            )
        return workloads


def _packed(texts: Iterable[str]) -> tuple[bytes, ...]:
    """The addresses, or none at all where one cannot be read."""
    packed = [pack(text) for text in texts]
    return () if None in packed else tuple(address for address in packed if address is not None)
