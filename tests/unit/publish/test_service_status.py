"""A global Service says who serves it, what is in conflict, and what others cannot reach."""

from peerd.limits import STATUS_NAMES, hits
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.federation import FederatedName
from peerd.publish.conditions import PROBLEM
from peerd.publish.service_status import CONFLICT, FEDERATED, REACHABLE, TAKEOVER, service_conditions

HOST = "web.shop.mesh.internal"
CONFLICT_KEY = f"conflict {HOST} Service/shop/web: "


def name(*clusters, own=True, others=None, outside=(), host=HOST):
    return FederatedName(
        "shop/web", host, own, clusters, len(clusters) if others is None else others, outside
    )


def warn(field, message="m"):
    return Diagnostic("Service/shop/web", field, message, "mend it", Severity.WARNING)


def conditions(*names, diagnostics=None, stale=()):
    return {each.type: each for each in service_conditions("east", names, diagnostics or {}, stale)}


def short(found):
    return f"{found.status}, {found.reason}"


def test_an_ordinary_service_has_no_condition():
    """Nothing global, nothing wrong: nothing is written."""
    assert conditions() == {}


def test_clusters_are_named_and_the_stale_ones_as_such():
    """Ours first."""
    found = conditions(name("north", "west"), stale={"west"})
    assert short(found[FEDERATED]) == "True, Exported"
    assert found[FEDERATED].message == (
        f"{HOST} is served by clusters east (this cluster), north, west (stale)"
    )
    assert short(found[CONFLICT]) == "False, NoConflicts"
    assert short(found[REACHABLE]) == "True, InMesh"


def test_alone_it_says_so():
    """Exported, and nobody else serves it."""
    assert short(conditions(name())[FEDERATED]) == "True, OnlyHere"


def test_a_service_that_only_others_export_says_how_to_join():
    """Nothing is said of conflicts or reach: nothing of it leaves this cluster."""
    found = conditions(name("west", own=False))
    assert short(found[FEDERATED]) == "False, NotExported"
    assert "solo.io/service-scope=global" in found[FEDERATED].message
    assert set(found) == {FEDERATED}


def test_an_external_name_is_not_told_to_take_a_label_that_it_may_have():
    """Nothing would come of it."""
    (found,) = service_conditions("east", [name("west", own=False)], {}, frozenset(), external=True)
    assert short(found) == "False, NotExported"
    assert found.message.endswith(
        "is served by clusters west; of type ExternalName it has no endpoints to share"
    )


def test_of_thousands_of_clusters_a_few_are_named():
    """STATUS_NAMES, and the number of the rest."""
    clusters = [f"c{i:02}" for i in range(STATUS_NAMES.value)]
    before = hits(STATUS_NAMES)
    found = conditions(name(*clusters, others=2_000))
    assert hits(STATUS_NAMES) == before + 1
    assert found[FEDERATED].message.endswith(f"c19, {2_000 - STATUS_NAMES.value} more")
    assert len(found[FEDERATED].message) < 300


def test_a_name_that_is_taken_over_is_named_beside_the_global_one():
    """Both hosts lead to the same clusters."""
    local = name("west", own=False, host="web.shop.svc.cluster.local")
    assert conditions(name("west"), local)[FEDERATED].message.startswith(
        "web.shop.mesh.internal, web.shop.svc.cluster.local is served"
    )


def test_conflicts_use_the_words_of_the_multi_cluster_services_api():
    """One condition; its reason is the first field's, its message names all."""
    ports, scope = (
        warn("spec.ports", "Conflict: ports"),
        warn("metadata.labels[solo.io/service-scope]", "scope"),
    )
    found = conditions(
        name("west"), diagnostics={CONFLICT_KEY + "spec.ports": ports, CONFLICT_KEY + "metadata": scope}
    )
    assert short(found[CONFLICT]) == "True, LabelsConflict"
    assert found[CONFLICT].message == "scope; mend it | Conflict: ports; mend it"
    assert PROBLEM not in found
    only = conditions(name("west"), diagnostics={CONFLICT_KEY + "spec.ports": ports})
    assert short(only[CONFLICT]) == "True, PortConflict"


def test_pods_outside_the_mesh_are_named_by_what_made_them():
    """The diagnostic that names Pods is left out: it changes with every one of them."""
    pods = warn("spec.selector", "3 of its endpoints are outside ambient, web-1, web-2")
    found = conditions(
        name(outside=("web-v1", "web-v2")), diagnostics={"export Service/shop/web: spec.selector": pods}
    )
    assert short(found[REACHABLE]) == "False, OutsideMesh"
    assert "Pods of web-v1, web-v2" in found[REACHABLE].message
    assert "web-1" not in str(found)


def test_a_takeover_that_is_refused_says_why():
    """Whoever refused it: another cluster's domain, or an istiod beside us."""
    label = "metadata.labels[solo.io/service-takeover]"
    found = conditions(
        name("west"), diagnostics={f"takeover west Service/shop/web: {label}": warn(label, "why")}
    )
    assert short(found[TAKEOVER]) == "False, Refused"
    assert found[TAKEOVER].message == "why; mend it"
    assert PROBLEM not in found


def test_whatever_else_is_wrong_is_a_problem():
    """Of ordinary Services too."""
    found = conditions(diagnostics={"Service/shop/web: spec.ports": warn("spec.ports")})
    assert {each: short(found[each]) for each in found} == {PROBLEM: "True, NotAsMeant"}
