"""Settings of the mesh and of this cluster (decision D6)."""

from peerd.model.generated import Generate
from peerd.model.record import Record


class Settings(Record, frozen=True):
    """What the operator gave peerd itself; flags win over the mesh configuration where both speak.

    `network` is used only where the system namespace has no label `topology.istio.io/network`.
    `trust_domain` empty means: as the mesh configuration says, else `cluster.local`.
    `peer_service_account` is that of peers' control planes whose Gateway names none (decision D14).
    `generate` says what is written into our own cluster; BESIDE also means that an istiod serves it alone.
    """

    cluster_id: str = "Kubernetes"
    trust_domain: str = ""
    system_namespace: str = "istio-system"
    network: str = ""
    revision: str = ""
    peering: bool = True
    domain: str = "cluster.local"
    peer_service_account: str = "peerd"
    generate: Generate = Generate.NOTHING


class LabelRequirement(Record, frozen=True):
    """One entry of a selector's matchExpressions."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class Selector(Record, frozen=True):
    """A label selector: all of `labels` and all of `expressions`."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[LabelRequirement, ...] = ()


class ScopeRule(Record, frozen=True):
    """One entry of MeshConfig.serviceScopeConfigs."""

    namespaces: Selector
    services: Selector
    scope: str


class VisibilityPolicy(Record, frozen=True):
    """One entry of MeshConfig.serviceEntryVisibility.policies: all of `namespaces` must match.

    None is a rule of a kind that peerd does not know, and matches nothing.
    """

    visibility: str
    namespaces: tuple[Selector | None, ...] = ()


class CaCertificate(Record, frozen=True):
    """One entry of MeshConfig.caCertificates: roots (PEM) of the trust domains it names."""

    pem: str = ""
    trust_domains: tuple[str, ...] = ()


class MeshConfig(Record, frozen=True):
    """The part of Istio's MeshConfig that peerd honours, with its defaults (decision D6)."""

    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = "istio-system"
    discovery_selectors: tuple[Selector, ...] = ()
    scope_rules: tuple[ScopeRule, ...] = ()
    service_entry_visibility: str = "PUBLIC"
    visibility_policies: tuple[VisibilityPolicy, ...] = ()
    default_service_export_to: tuple[str, ...] = ()
    ca_certificates: tuple[CaCertificate, ...] = ()
