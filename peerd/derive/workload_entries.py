"""WorkloadEntries, and inline endpoints of ServiceEntries: workloads outside Pods (wire-contract §4.3)."""

from collections.abc import Mapping

from peerd.derive import labels
from peerd.derive.addresses import pack
from peerd.derive.endpoints import Endpoints, entry_ports
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.problems import error, keyed, name_of, warning
from peerd.derive.service_entries import ServiceEntries, resolution_of
from peerd.derive.services import SERVICE_ENTRY, ServiceInfo, valid_port
from peerd.model.address import Locality
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.istio import ServiceEntry, WorkloadEntry, WorkloadEntrySpec
from peerd.model.kube.meta import ObjectMeta
from peerd.model.workload import TunnelProtocol, Workload

_DNS = {"DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"}


def merged_labels(entry: WorkloadEntry) -> dict[str, str]:
    """Labels of spec and metadata; metadata's win (golden: workload-entries)."""
    return {**entry.spec.labels, **entry.metadata.labels}


def split_locality(text: str) -> Locality | None:
    """`region/zone/subzone`; what is missing is empty, all empty is none."""
    parts = [*text.split("/"), "", ""][:3]
    return Locality(*parts) if any(parts) else None


def usable_ports(spec: WorkloadEntrySpec) -> dict[str, int]:
    """The port map without what is no port."""
    return {name: number for name, number in spec.ports.items() if valid_port(number)}


def capacity(spec: WorkloadEntrySpec) -> int | None:
    """A weight above zero; absent means 1 (wire-contract §1.6)."""
    return spec.weight if 0 < spec.weight < 1 << 32 else None


def check(entry: WorkloadEntry) -> tuple[Diagnostic, ...]:
    """What is wrong with a WorkloadEntry as such."""
    where = name_of("WorkloadEntry", entry)
    spec = entry.spec
    found = [
        error(where, f"spec.ports[{name}]", f"{number} is no port", "use a port from 1 to 65535")
        for name, number in spec.ports.items()
        if not valid_port(number)
    ]
    if not 0 <= spec.weight < 1 << 32:
        found.append(warning(where, "spec.weight", f"{spec.weight} is no weight", "use 1 or more"))
    if not spec.address and not spec.network:
        message = "is empty, and without a network there is no gateway to reach it by"
        found.append(warning(where, "spec.address", message, "name an address, or the network"))
    return tuple(found)


class WorkloadEntries:
    """Workloads of WorkloadEntries and of ServiceEntry endpoints, under their uid."""

    def __init__(
        self,
        engine: Engine,
        *,
        cluster: str,
        revision: str,
        entries: Input[str, WorkloadEntry],
        service_entries: ServiceEntries,
        endpoints: Endpoints,
    ) -> None:
        self._cluster = cluster
        self._revision = revision
        self._endpoints = endpoints
        admitted = engine.derive("workload entries", entries, self._admit)
        self.wire = engine.derive_many("entry workloads", admitted, self._entry)
        self.endpoint_wire = engine.derive_many("endpoint workloads", service_entries.admitted, self._inline)
        self.diagnostics = engine.derive_many("workload entry diagnostics", admitted, self._diagnostics)

    def _admit(self, ctx: Context, _key: str, entry: WorkloadEntry) -> WorkloadEntry | None:
        ours = labels.in_revision(entry.metadata.labels, self._revision)
        return entry if ours and ctx.ask(self._endpoints.mesh.selected, entry.metadata.namespace) else None

    def _diagnostics(self, ctx: Context, _key: str, entry: WorkloadEntry) -> dict[str, Diagnostic]:
        found = list(check(entry))
        routes = self._endpoints.routes(ctx, entry.metadata.namespace, merged_labels(entry))
        if routes.problem:
            field = f"metadata.labels[{labels.USE_WAYPOINT}]"
            fix = "mend the label, or the waypoint; traffic goes without it"
            found.append(warning(name_of("WorkloadEntry", entry), field, routes.problem, fix))
        return keyed(found)

    def _entry(self, ctx: Context, _key: str, entry: WorkloadEntry) -> dict[str, Workload]:
        meta, spec = entry.metadata, entry.spec
        found = merged_labels(entry)
        frozen = labels.freeze(found)
        name = meta.annotations.auto_registration_group or found.get(labels.WORKLOAD_NAME, meta.name)
        uid = f"{self._cluster}/networking.istio.io/WorkloadEntry/{meta.namespace}/{meta.name}"
        workload = self._workload(
            ctx,
            uid=uid,
            name=meta.name,
            meta=meta,
            spec=spec,
            own_labels=frozen,
            waypoint_labels=found,
            workload_name=name,
            services=self._endpoints.services(ctx, meta.namespace, frozen),
        )
        return {uid: workload}

    def _inline(self, ctx: Context, key: str, entry: ServiceEntry) -> dict[str, Workload]:
        """One workload for each inline endpoint; without endpoints and selector, DNS gives one for each host.

        Policies, canonical name and tunnel are of the ServiceEntry's own labels, the waypoint of the
        endpoint's. Where no host of the entry is served, its endpoints are not either.
        """
        meta, spec = entry.metadata, entry.spec
        implicit = not spec.endpoints and resolution_of(entry) in _DNS and spec.workload_selector is None
        if not spec.endpoints and not implicit:
            return {}
        infos = ctx.find(self._endpoints.hostnames.by_object, (SERVICE_ENTRY, key))
        if not infos:
            return {}
        frozen = labels.freeze(meta.labels)
        pairs: list[tuple[WorkloadEntrySpec, list[ServiceInfo]]] = (
            [(WorkloadEntrySpec(address=info.service.hostname), [info]) for info in infos]
            if implicit
            else [(endpoint, list(infos)) for endpoint in spec.endpoints]
        )
        workloads: dict[str, Workload] = {}
        for endpoint, services in pairs:
            uid = (
                f"{self._cluster}/networking.istio.io/ServiceEntry/{meta.namespace}/{meta.name}"
                f"/{endpoint.address}"
            )
            # Of two with one address ztunnel can hold one; istiod's is the last.
            workloads[uid] = self._workload(
                ctx,
                uid=uid,
                name=meta.name,
                meta=meta,
                spec=endpoint,
                own_labels=frozen,
                waypoint_labels=None if implicit else endpoint.labels,
                workload_name=meta.name,
                services=services,
            )
        return workloads

    def _workload(
        self,
        ctx: Context,
        *,
        uid: str,
        name: str,
        meta: ObjectMeta,
        spec: WorkloadEntrySpec,
        own_labels: labels.Labels,
        waypoint_labels: Mapping[str, str] | None,
        workload_name: str,
        services: list[ServiceInfo],
    ) -> Workload:
        mesh = self._endpoints.mesh.of(ctx)
        network = spec.network or mesh.network
        address = pack(spec.address)
        found = dict(own_labels)
        native = labels.speaks_hbone_itself(found)
        hbone = native or meta.annotations.redirection == "enabled"
        routes = (
            None if waypoint_labels is None else self._endpoints.routes(ctx, meta.namespace, waypoint_labels)
        )
        ports = usable_ports(spec)
        entries = tuple(entry_ports(info, ports) for info in sorted(services, key=lambda i: i.key))
        return Workload(
            uid=uid,
            name=name,
            namespace=meta.namespace,
            addresses=() if address is None else (address,),
            hostname=spec.address if address is None else "",
            network=network,
            tunnel_protocol=TunnelProtocol.HBONE if hbone else TunnelProtocol.NONE,
            trust_domain=mesh.trust_domain,
            service_account=spec.service_account,
            waypoint=None if routes is None else routes.waypoint,
            canonical_name=labels.canonical_name(found, workload_name),
            canonical_revision=labels.canonical_revision(found),
            workload_name=workload_name,
            native_tunnel=native,
            authorization_policies=self._endpoints.policies.listed(ctx, meta.namespace, own_labels),
            cluster_id=self._cluster,
            network_gateway=ctx.ask(self._endpoints.gateway, network)[0],
            services=self._endpoints.global_services.expand(ctx, entries),
            application_tunnel=None if routes is None else routes.tunnel,
            locality=split_locality(spec.locality),
            capacity=capacity(spec),
        )
