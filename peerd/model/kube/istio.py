"""Kinds of Istio's networking and security groups, and Segment of admin.solo.io."""

import msgspec

from peerd.model.kube.meta import KubeObject, KubeRecord, LabelSelector, TargetReference


class ServiceEntryPort(KubeRecord, frozen=True):
    """`target_port` 0 = the port number itself."""

    number: int = 0
    name: str = ""
    protocol: str = ""
    target_port: int = 0


class WorkloadEntrySpec(KubeRecord, frozen=True):
    """A VM, an external host, or an inline endpoint of a ServiceEntry."""

    address: str = ""
    ports: dict[str, int] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""


class WorkloadSelector(KubeRecord, frozen=True):
    """Istio's older selector form."""

    labels: dict[str, str] = {}


class ServiceEntrySpec(KubeRecord, frozen=True):
    """Hosts and how they resolve."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    location: str = ""
    resolution: str = ""
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class AllocatedAddress(KubeRecord, frozen=True):
    """An automatically allocated address of one host."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(KubeRecord, frozen=True):
    """Allocations, as istiod's controller writes them."""

    addresses: tuple[AllocatedAddress, ...] = ()


class ServiceEntry(KubeObject, frozen=True):
    """Hosts that the cluster's Services do not cover."""

    spec: ServiceEntrySpec = ServiceEntrySpec()
    status: ServiceEntryStatus = ServiceEntryStatus()


class WorkloadEntry(KubeObject, frozen=True):
    """One workload outside Pods."""

    spec: WorkloadEntrySpec = WorkloadEntrySpec()


class PolicySource(KubeRecord, frozen=True):
    """`from[].source` of an AuthorizationPolicy."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()


class PolicyFrom(KubeRecord, frozen=True):
    """One source."""

    source: PolicySource = PolicySource()


class PolicyOperation(KubeRecord, frozen=True):
    """`to[].operation` of an AuthorizationPolicy."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class PolicyTo(KubeRecord, frozen=True):
    """One operation."""

    operation: PolicyOperation = PolicyOperation()


class PolicyCondition(KubeRecord, frozen=True):
    """One `when`."""

    key: str = ""
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class PolicyRule(KubeRecord, frozen=True):
    """`from`, `to` and `when` are ANDed."""

    from_: tuple[PolicyFrom, ...] = msgspec.field(name="from", default=())
    to: tuple[PolicyTo, ...] = ()
    when: tuple[PolicyCondition, ...] = ()


class PolicySelector(KubeRecord, frozen=True):
    """`matchLabels` that are there and empty select everything, those that are absent nothing."""

    match_labels: dict[str, str] | None = None


class AuthorizationPolicySpec(KubeRecord, frozen=True):
    """Selector, action, rules."""

    selector: PolicySelector | None = None
    target_ref: TargetReference | None = None
    target_refs: tuple[TargetReference, ...] = ()
    action: str = "ALLOW"
    rules: tuple[PolicyRule, ...] = ()


class AuthorizationPolicy(KubeObject, frozen=True):
    """Who may call whom."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class MutualTls(KubeRecord, frozen=True):
    """Mode UNSET inherits."""

    mode: str = "UNSET"


class PeerAuthenticationSpec(KubeRecord, frozen=True):
    """mTLS mode of the selected workloads and of single ports (keys are port numbers as text)."""

    selector: LabelSelector | None = None
    mtls: MutualTls = MutualTls()
    port_level_mtls: dict[str, MutualTls] = {}


class PeerAuthentication(KubeObject, frozen=True):
    """Whether plaintext is accepted."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class SegmentAlias(KubeRecord, frozen=True):
    """An additional host name, made from a template, for the selected services."""

    pattern: str = ""
    selector: LabelSelector = LabelSelector()


class SegmentSpec(KubeRecord, frozen=True):
    """The segment's own domain and aliases."""

    domain: str = ""
    aliases: tuple[SegmentAlias, ...] = ()


class Segment(KubeObject, frozen=True):
    """A tenant of the mesh: clusters that share a domain."""

    spec: SegmentSpec = SegmentSpec()
