"""The mesh configuration, and what of it reaches every record."""

import pytest

from peerd.derive.mesh import parse_mesh
from peerd.derive.world import World
from peerd.model.kube.core import ConfigMap
from peerd.model.kube.meta import ObjectMeta
from peerd.model.mesh import LabelRequirement, MeshConfig, ScopeRule, Selector, Settings
from tests.support.derived import derive, diagnostics, service, workload
from tests.support.golden import changes
from tests.support.worlds import Seen, finish

POD = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {env: prod}}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {namespace: shop, name: p}
    status: {phase: Running, podIP: 10.0.0.1}
    ---
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: s}
    spec: {clusterIP: 10.96.0.1}
"""
MAP = """
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {namespace: istio-system, name: %s}
    data: {mesh: "%s"}
"""
KEY = "shop/s.shop.svc.cluster.local"


def parse(text: str) -> tuple[MeshConfig | None, list[str]]:
    parsed = parse_mesh(ConfigMap(ObjectMeta("istio", "istio-system"), {"mesh": text}))
    return parsed.config, [diagnostic.field for diagnostic in parsed.diagnostics]


def test_defaults_are_those_of_the_ambient_profile() -> None:
    """Trust domain cluster.local, root istio-system, and the rule for `istio.io/global` (D6, D25)."""
    config, problems = parse("")
    rule = ScopeRule(Selector(), Selector(labels=(("istio.io/global", "true"),)), "GLOBAL")
    assert config == MeshConfig(scope_rules=(rule,))
    assert problems == []


def test_fields_are_read_and_nulls_are_absent() -> None:
    """Selectors with expressions, scope rules, aliases; unknown fields are somebody else's."""
    config, problems = parse(
        """
        trustDomain: td
        trustDomainAliases: [old]
        rootNamespace: null
        accessLogFile: /dev/stdout
        discoverySelectors: [{matchExpressions: [{key: env, operator: NotIn, values: [dev]}]}]
        serviceScopeConfigs:
        - {servicesSelector: {matchLabels: {a: b}}, namespaceSelector: null, scope: GLOBAL}
        """
    )
    assert problems == []
    assert config == MeshConfig(
        trust_domain="td",
        trust_domain_aliases=("old",),
        discovery_selectors=(Selector(expressions=(LabelRequirement("env", "NotIn", ("dev",)),)),),
        scope_rules=(ScopeRule(Selector(), Selector(labels=(("a", "b"),)), "GLOBAL"),),
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("trustDomain: [x]", "data.mesh.trustDomain"),
        ("discoverySelectors: 5", "data.mesh.discoverySelectors"),
        ("serviceEntryVisibility: {defaultVisibility: HIDDEN}", "data.mesh.serviceEntryVisibility"),
        ("a: [", "data.mesh"),
        ("just words", "data.mesh"),
    ],
)
def test_a_bad_field_is_told_and_keeps_its_default(text: str, field: str) -> None:
    """One field wrong leaves the others; a text that is no mapping gives no configuration at all."""
    config, problems = parse(text)
    assert problems == [field]
    assert (config is None) is (field == "data.mesh")
    if config is not None:
        assert config.trust_domain == "cluster.local"


def test_an_unreadable_map_keeps_the_last_good_configuration() -> None:
    """A typing error in the mesh's ConfigMap must not change every identity; deleting it does."""
    world, seen = World(Settings()), Seen()
    for text in (POD + MAP % ("istio", "trustDomain: td"), MAP % ("istio", "a: [")):
        world.apply(changes(text.replace("\n    ", "\n").encode()))
        seen.take(finish(world))
    assert workload(seen, "p").trust_domain == "td"
    assert [d.field for d in diagnostics(seen)] == ["data.mesh"]


def test_the_trust_domain_is_on_the_wire_unless_it_is_the_default() -> None:
    """`cluster.local` is written as nothing; a flag overrides the configuration (D6)."""
    text = POD + MAP % ("istio", "trustDomain: td")
    assert workload(derive(POD), "p").trust_domain == ""
    assert workload(derive(text), "p").trust_domain == "td"
    assert workload(derive(text, settings=Settings(trust_domain="flag")), "p").trust_domain == "flag"


def test_the_revisions_own_map_wins() -> None:
    """`istio-<revision>` before `istio`, and neither from another namespace."""
    text = POD + MAP % ("istio", "trustDomain: plain") + MAP % ("istio-r1", "trustDomain: r1")
    assert workload(derive(text, settings=Settings(revision="r1")), "p").trust_domain == "r1"
    assert workload(derive(text), "p").trust_domain == "plain"
    elsewhere = text.replace("namespace: istio-system", "namespace: other")
    assert workload(derive(elsewhere), "p").trust_domain == ""


@pytest.mark.parametrize(
    ("selectors", "served"),
    [
        ("[]", True),
        ("[{matchLabels: {env: prod}}]", True),
        ("[{matchLabels: {env: dev}}, {matchExpressions: [{key: env, operator: Exists}]}]", True),
        ("[{matchLabels: {env: dev}}]", False),
        ("[{matchExpressions: [{key: env, operator: DoesNotExist}]}]", False),
        ("[{matchExpressions: [{key: env, operator: Guess}]}]", False),
    ],
)
def test_discovery_selectors_let_namespaces_in(selectors: str, served: bool) -> None:
    """Any of them is enough, none of them means all namespaces."""
    seen = derive(POD + MAP % ("istio", f"discoverySelectors: {selectors}"))
    assert bool(seen.parts["addresses"]) is served


SYSTEM = """
    ---
    apiVersion: v1
    kind: Namespace
    metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}
"""


def test_the_network_is_the_label_and_the_flag_fills_a_missing_one() -> None:
    """On Workloads and VIPs alike; a flag that differs from the label is told (D6)."""
    labelled = derive(POD + SYSTEM)
    assert labelled.network == workload(labelled, "p").network == "net1"
    assert service(labelled, KEY).addresses[0].network == "net1"
    assert derive(POD, settings=Settings(network="flag")).network == "flag"
    both = derive(POD + SYSTEM, settings=Settings(network="flag"))
    assert both.network == "net1"
    assert [d.object for d in diagnostics(both)] == ["Namespace/istio-system"]
