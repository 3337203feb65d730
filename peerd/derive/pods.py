"""Pods: the workloads of the cluster (wire-contract §4.3)."""

import re
import sys

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.endpoints import Endpoints, PodShape, pod_ports
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.problems import error, name_of
from peerd.derive.services import SERVICE, hostname, valid_port
from peerd.derive.slices import Slices
from peerd.model.address import Locality
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import Pod
from peerd.model.record import Record
from peerd.model.workload import NetworkMode, ServicePorts, TunnelProtocol, Workload, WorkloadStatus

_CRON_JOB = re.compile(r"(.+)-\d{8,10}", re.ASCII)


class PodFacts(Record, frozen=True):
    """What is kept of a Pod; everything else of the object is dropped at once."""

    name: str
    uid: str
    shape: PodShape
    addresses: tuple[bytes, ...]
    service_account: str
    node: str
    workload_name: str
    healthy: bool
    captured: bool
    host_network: bool


def pod_uid(cluster: str, namespace: str, name: str) -> str:
    """`<cluster>//Pod/<namespace>/<name>`: the empty API group gives the double slash."""
    return f"{cluster}//Pod/{namespace}/{name}"


def workload_name(pod: Pod) -> str:
    """The name of what made the Pod; label `service.istio.io/workload-name` overrides it.

    Only a generated Pod name leads to its controller: a ReplicaSet less the template hash is a Deployment or
    Rollout, a Job with 8 to 10 digits at the end is a CronJob's, a ReplicationController with the label is a
    DeploymentConfig's (golden: canonical-and-owners has none but plain names).
    """
    meta = pod.metadata
    override = meta.labels.get(labels.WORKLOAD_NAME)
    if override is not None:
        return override
    if meta.generate_name:
        for owner in meta.owner_references:
            if owner.controller:
                return _controlled_by(owner.kind, owner.name, meta.labels) or meta.name
    return meta.name


def _controlled_by(kind: str, name: str, found: dict[str, str]) -> str:
    if kind == "ReplicaSet":
        for label in ("pod-template-hash", "rollouts-pod-template-hash"):
            suffix = found.get(label, "")
            if suffix and name.endswith(suffix):
                return name.removesuffix(f"-{suffix}")
    elif kind == "ReplicationController":
        return found.get("deploymentconfig") or name
    elif kind == "Job":
        match = _CRON_JOB.fullmatch(name)
        if match is not None:
            return match.group(1)
    return name


def named_ports(pod: Pod) -> tuple[tuple[str, int], ...]:
    """Named TCP ports of the containers, then of native sidecars (init containers that restart always)."""
    spec = pod.spec
    return tuple(
        (port.name, port.container_port)
        for container in (
            *spec.containers,
            *(c for c in spec.init_containers if c.restart_policy == "Always"),
        )
        for port in container.ports
        if port.name and port.protocol == "TCP" and valid_port(port.container_port)
    )


def is_ready(pod: Pod) -> bool:
    """Whether the condition Ready is True and the Pod is not on its way out."""
    if pod.metadata.deletion_timestamp:
        return False
    for condition in pod.status.conditions:
        if condition.type == "Ready":
            return condition.status == "True"
    return False


def pod_facts(pod: Pod) -> tuple[PodFacts | None, tuple[Diagnostic, ...]]:
    """The facts of a Pod that is a workload, and what is wrong with it.

    None: it is over (Succeeded, Failed), has no IP yet, or one that is no IP. Pending Pods with an IP count.
    """
    status, meta = pod.status, pod.metadata
    if status.phase in {"Succeeded", "Failed"}:
        return None, ()
    texts = [entry.ip for entry in status.pod_ips] or ([status.pod_ip] if status.pod_ip else [])
    if not texts:
        return None, ()
    addresses: list[bytes] = []
    for text in texts:
        address = pack(text)
        if address is None:
            fix = "write an IP address; the Pod is not served"
            return None, (error(name_of("Pod", pod), "status.podIPs", f"{text!r} is none", fix),)
        addresses.append(address)
    return (
        PodFacts(
            name=meta.name,
            uid=meta.uid,
            shape=(meta.namespace, labels.freeze(meta.labels), named_ports(pod)),
            addresses=tuple(addresses),
            # Thousands of Pods share these.
            service_account=sys.intern(pod.spec.service_account_name),
            node=sys.intern(pod.spec.node_name),
            workload_name=workload_name(pod),
            healthy=is_ready(pod),
            captured=meta.annotations.redirection == "enabled",
            host_network=pod.spec.host_network,
        ),
        (),
    )


class Pods:
    """One Workload for each Pod, under its uid."""

    def __init__(
        self,
        engine: Engine,
        *,
        cluster: str,
        domain: str,
        pods: Input[str, PodFacts],
        localities: Input[str, Locality],
        endpoints: Endpoints,
        slices: Slices,
    ) -> None:
        self._cluster = cluster
        self._domain = domain
        self._localities = localities
        self._endpoints = endpoints
        self._slices = slices
        self.wire = engine.derive("pod workloads", pods, self._workload, joined=(slices.of_pod,))

    def _workload(self, ctx: Context, uid: str, pod: PodFacts) -> Workload | None:
        context = ctx.ask(self._endpoints.pod, pod.shape)
        if not context.selected:
            return None
        services = context.services
        if ctx.same(self._slices.of_pod) is not None:
            services = self._with_slices(ctx, pod, services)
        hbone = pod.captured or context.speaks_hbone
        return Workload(
            uid,
            pod.name,
            pod.shape[0],
            pod.addresses,
            context.network,
            TunnelProtocol.HBONE if hbone else TunnelProtocol.NONE,
            context.trust_domain,
            pod.service_account,
            waypoint=context.waypoint,
            node=pod.node,
            canonical_name=pod.workload_name if context.labelled_name is None else context.labelled_name,
            canonical_revision=context.canonical_revision,
            workload_name=pod.workload_name,
            native_tunnel=context.speaks_hbone,
            authorization_policies=context.policies,
            status=WorkloadStatus.HEALTHY if pod.healthy else WorkloadStatus.UNHEALTHY,
            cluster_id=self._cluster,
            network_gateway=context.network_gateway,
            services=services,
            application_tunnel=context.tunnel,
            locality=ctx.get(self._localities, pod.node),
            network_mode=NetworkMode.HOST_NETWORK if pod.host_network else NetworkMode.STANDARD,
        )

    def _with_slices(
        self, ctx: Context, pod: PodFacts, services: tuple[ServicePorts, ...]
    ) -> tuple[ServicePorts, ...]:
        """Services that have the Pod by an EndpointSlice and not by their selector (wire-contract §4.3)."""
        found = {entry.service: entry for entry in services}
        added: list[ServicePorts] = []
        hosts = {key.partition("/")[2] for key in found}
        for reference in ctx.same(self._slices.of_pod) or ():
            host = hostname(reference.service, reference.namespace, self._domain)
            if reference.uid != pod.uid or host in hosts:
                continue
            info = ctx.get(self._endpoints.hostnames.table, f"{reference.namespace}/{host}")
            if info is not None and info.source == SERVICE:
                added.append(pod_ports(info, dict(reversed(pod.shape[2]))))
        for entry in self._endpoints.global_services.expand(ctx, tuple(added)):
            found[entry.service] = entry
        return tuple(found[key] for key in sorted(found))
