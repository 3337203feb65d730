"""The mesh configuration: ConfigMap `istio` or `istio-<revision>`, key `mesh` (decision D6)."""

from typing import Any, cast

import msgspec
import yaml

from peerd.derive import labels
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, keyed, name_of, warning
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.core import ConfigMap
from peerd.model.kube.meta import KubeRecord
from peerd.model.mesh import (
    CaCertificate,
    LabelRequirement,
    MeshConfig,
    ScopeRule,
    Selector,
    Settings,
    VisibilityPolicy,
)
from peerd.model.record import Record

# Tables of one record have the empty key.
ONLY = ""

# The ambient profile's rule: OSS marks a global service with this label (decision D25).
DEFAULT_SCOPE_RULES = (ScopeRule(Selector(), Selector(labels=(("istio.io/global", "true"),)), "GLOBAL"),)

_VISIBILITIES = {"", "UNSPECIFIED", "PUBLIC", "NAMESPACE", "NONE"}


class MeshFacts(Record, frozen=True):
    """What all of derivation shares. `trust_domain` is as the wire has it: empty for `cluster.local`.

    `identity_domain` is the trust domain spelt out, `network` the cluster's own.
    """

    config: MeshConfig
    trust_domain: str
    identity_domain: str
    network: str


class _Requirement(KubeRecord, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class _Selector(KubeRecord, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[_Requirement, ...] = ()


class _ScopeConfig(KubeRecord, frozen=True):
    namespace_selector: _Selector = _Selector()
    services_selector: _Selector = _Selector()
    scope: str = "LOCAL"


class _VisibilityRule(KubeRecord, frozen=True):
    namespace_selector: _Selector | None = None


class _VisibilityPolicy(KubeRecord, frozen=True):
    visibility: str = ""
    matching_rules: tuple[_VisibilityRule, ...] = ()


class _CaCertificate(KubeRecord, frozen=True):
    pem: str = ""
    trust_domains: tuple[str, ...] = ()


class _Visibility(KubeRecord, frozen=True):
    default_visibility: str = ""
    policies: tuple[_VisibilityPolicy, ...] = ()


class ParsedMesh(Record, frozen=True):
    """A mesh configuration and what is wrong with it; None = unreadable, the last good one stays."""

    config: MeshConfig | None
    diagnostics: tuple[Diagnostic, ...] = ()


def is_mesh_config(settings: Settings, namespace: str, name: str) -> bool:
    """Whether a ConfigMap may hold the mesh configuration (decision D6)."""
    return namespace == settings.system_namespace and name in {"istio", f"istio-{settings.revision}"}


def parse_mesh(config_map: ConfigMap) -> ParsedMesh:
    """Read key `mesh`; a bad field keeps its default and is told, an unreadable text changes nothing."""
    where = name_of("ConfigMap", config_map)
    try:
        tree = yaml.safe_load(config_map.data.get("mesh", ""))
    except yaml.YAMLError as problem:
        reason = " ".join(str(problem).split())
        return ParsedMesh(
            None,
            (
                error(
                    where, "data.mesh", f"is no YAML ({reason})", "mend it; the last good one stays in force"
                ),
            ),
        )
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        return ParsedMesh(
            None, (error(where, "data.mesh", "is no YAML mapping", "write MeshConfig fields there"),)
        )
    diagnostics: list[Diagnostic] = []

    def read(field: str, kind: Any, default: Any) -> Any:
        value = tree.get(field)
        if value is None:
            return default
        try:
            return msgspec.convert(_without_nulls(value), kind)
        except msgspec.ValidationError as problem:
            fix = "see Istio's MeshConfig reference; the default is used"
            diagnostics.append(error(where, f"data.mesh.{field}", str(problem), fix))
            return default

    visibility = cast("_Visibility", read("serviceEntryVisibility", _Visibility, _Visibility()))
    for found in (visibility.default_visibility, *(policy.visibility for policy in visibility.policies)):
        if found not in _VISIBILITIES:
            fix = "use PUBLIC, NAMESPACE or NONE; it counts as PUBLIC"
            diagnostics.append(error(where, "data.mesh.serviceEntryVisibility", f"unknown {found!r}", fix))
    scopes = cast(
        "tuple[_ScopeConfig, ...] | None", read("serviceScopeConfigs", tuple[_ScopeConfig, ...], None)
    )
    config = MeshConfig(
        trust_domain=read("trustDomain", str, "") or "cluster.local",
        trust_domain_aliases=read("trustDomainAliases", tuple[str, ...], ()),
        root_namespace=read("rootNamespace", str, "") or "istio-system",
        discovery_selectors=tuple(
            _selector(found) for found in read("discoverySelectors", tuple[_Selector, ...], ())
        ),
        scope_rules=DEFAULT_SCOPE_RULES
        if scopes is None
        else tuple(
            ScopeRule(_selector(rule.namespace_selector), _selector(rule.services_selector), rule.scope)
            for rule in scopes
        ),
        service_entry_visibility=visibility.default_visibility or "PUBLIC",
        visibility_policies=tuple(
            VisibilityPolicy(
                policy.visibility or "PUBLIC",
                tuple(
                    None if rule.namespace_selector is None else _selector(rule.namespace_selector)
                    for rule in policy.matching_rules
                ),
            )
            for policy in visibility.policies
        ),
        default_service_export_to=read("defaultServiceExportTo", tuple[str, ...], ()),
        ca_certificates=tuple(
            CaCertificate(found.pem, found.trust_domains)
            for found in read("caCertificates", tuple[_CaCertificate, ...], ())
        ),
    )
    return ParsedMesh(config, tuple(diagnostics))


def _selector(found: _Selector) -> Selector:
    return Selector(
        labels.freeze(found.match_labels),
        tuple(LabelRequirement(e.key, e.operator, e.values) for e in found.match_expressions),
    )


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_without_nulls(value) for value in tree]
    return tree


class Mesh:
    """The one MeshFacts record, and the discovery selectors.

    `facts` holds one record under `ONLY`, always: without a ConfigMap the defaults (decision D6).
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        namespaces: Input[str, NamespaceFacts],
        config_maps: Input[str, ParsedMesh],
    ) -> None:
        self._settings = settings
        self._namespaces = namespaces
        self._config_maps = config_maps
        self.anchor: Input[str, str] = engine.input("the mesh")  # one record, so that facts always exist
        self.facts = engine.derive("mesh", self.anchor, self._facts)
        self.facts.common = True
        self.selected = engine.memo("selected namespaces", self._selected)
        self.diagnostics = engine.derive_many("mesh diagnostics", self.anchor, self._diagnostics)

    def of(self, ctx: Context) -> MeshFacts:
        """The mesh, as a dependency."""
        facts = ctx.get(self.facts, ONLY)
        if facts is None:
            raise LookupError("the mesh is asked for before the first batch")
        return facts

    def _config(self, ctx: Context) -> MeshConfig:
        # The revision's own ConfigMap wins over the plain one.
        for name in (f"istio-{self._settings.revision}", "istio"):
            parsed = ctx.get(self._config_maps, name)
            if parsed is not None and parsed.config is not None:
                return parsed.config
        return MeshConfig(scope_rules=DEFAULT_SCOPE_RULES)

    def _facts(self, ctx: Context, _key: str, _record: str) -> MeshFacts:
        config = self._config(ctx)
        domain = self._settings.trust_domain or config.trust_domain
        system = ctx.get(self._namespaces, self._settings.system_namespace)
        # The cluster's network is a label of the system namespace (wire-contract §4.2); the flag only fills
        # a missing label (decision D6).
        network = system.labels.get(labels.NETWORK) if system is not None else None
        return MeshFacts(
            config=config,
            trust_domain="" if domain == "cluster.local" else domain,
            identity_domain=domain,
            network=self._settings.network if network is None else network,
        )

    def _selected(self, ctx: Context, namespace: str) -> bool:
        """Whether discovery selectors let *namespace* in; without selectors all are (wire-contract §4.1)."""
        selectors = self.of(ctx).config.discovery_selectors
        if not selectors:
            return True
        facts = ctx.get(self._namespaces, namespace)
        return facts is not None and any(labels.matches(selector, facts.labels) for selector in selectors)

    def _diagnostics(self, ctx: Context, _key: str, _record: str) -> dict[str, Diagnostic]:
        found: list[Diagnostic] = []
        for name in (f"istio-{self._settings.revision}", "istio"):
            parsed = ctx.get(self._config_maps, name)
            if parsed is not None:
                found += parsed.diagnostics
        system = ctx.get(self._namespaces, self._settings.system_namespace)
        label = system.labels.get(labels.NETWORK) if system is not None else None
        if label is not None and self._settings.network and label != self._settings.network:
            found.append(
                warning(
                    f"Namespace/{self._settings.system_namespace}",
                    f"metadata.labels[{labels.NETWORK}]",
                    f"says {label!r}, the setting says {self._settings.network!r}; the label is used",
                    "make both equal",
                )
            )
        return keyed(found)
