"""What a Service's status says of its federation: pure, from what derivation knows (decisions D25, D27, D32).

Everything in it stays as it is while Pods come and go: no capacity, no Pod's name.
"""

from collections.abc import Collection, Mapping, Sequence

from peerd.limits import STATUS_NAMES, hit
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedName
from peerd.publish.conditions import Condition, no, problem, yes

FEDERATED = "peering.peerd.io/Federated"
REACHABLE = "peering.peerd.io/Reachable"
TAKEOVER = "peering.peerd.io/Takeover"
CONFLICT = "Conflict"
"""Word and reasons of the Multi-Cluster Services API (decision D32)."""

SERVICE_TYPES = (FEDERATED, REACHABLE, TAKEOVER, CONFLICT)

_FIX = "label it solo.io/service-scope=global to serve it from here too"
_CONFLICT_REASONS = {
    "spec.ports": "PortConflict",
    "spec.trafficDistribution": "TrafficDistributionConflict",
    "metadata.labels[solo.io/service-scope]": "LabelsConflict",
}


def service_conditions(
    cluster: str,
    names: Sequence[FederatedName],
    diagnostics: Mapping[str, Diagnostic],
    stale: Collection[str],
    *,
    external: bool = False,
) -> tuple[Condition, ...]:
    """All conditions of one Service; none where nothing of it is global and nothing is wrong.

    *cluster* is ours, *names* what is known of the Service's global names, *diagnostics* what is wrong with
    it, by derivation's keys; *stale* clusters are named as such. *external*: it is of type ExternalName.
    """
    topics: dict[str, list[Diagnostic]] = {}
    for key, found in sorted(diagnostics.items()):
        topics.setdefault(_topic(key, found), []).append(found)
    exported = any(each.own for each in names)
    fix = "of type ExternalName it has no endpoints to share" if external else _FIX
    conditions = [_federated(cluster, names, stale, fix, exported=exported)] if names else []
    if exported:
        conditions += [_conflict(topics.get("conflict", ())), _reachable(names)]
    if "takeover" in topics:
        conditions.append(no(TAKEOVER, "Refused", _said(topics["takeover"])))
    return (*conditions, *problem(topics.get("", ())))


def _topic(key: str, found: Diagnostic) -> str:
    if "service-takeover" in found.field:
        return "takeover"
    word = key.partition(" ")[0]
    # What is outside the mesh is said by REACHABLE, without the names of Pods.
    return word if word in {"conflict", "export"} else ""


def _federated(
    cluster: str,
    names: Sequence[FederatedName],
    stale: Collection[str],
    fix: str,
    *,
    exported: bool,
) -> Condition:
    hosts = ", ".join(sorted({each.host for each in names}))
    most = max(names, key=lambda each: each.others)
    others = [f"{each} (stale)" if each in stale else each for each in most.clusters]
    if most.others > len(others):
        hit(STATUS_NAMES)
        others.append(f"{most.others - len(others)} more")
    if not exported:
        return no(FEDERATED, "NotExported", f"{hosts} is served by clusters {', '.join(others)}; {fix}")
    by = ", ".join([f"{cluster} (this cluster)", *others])
    return yes(FEDERATED, "Exported" if most.others else "OnlyHere", f"{hosts} is served by clusters {by}")


def _conflict(found: Sequence[Diagnostic]) -> Condition:
    if not found:
        return no(CONFLICT, "NoConflicts", "all clusters say the same")
    return yes(CONFLICT, _CONFLICT_REASONS.get(found[0].field, "Conflict"), _said(found))


def _reachable(names: Sequence[FederatedName]) -> Condition:
    outside = sorted({each for name in names for each in name.outside})
    if not outside:
        return yes(REACHABLE, "InMesh", "other clusters reach all of its Pods")
    return no(
        REACHABLE,
        "OutsideMesh",
        f"Pods of {', '.join(outside)} are outside ambient: other clusters do not reach them;"
        " add them to the mesh (istio.io/dataplane-mode=ambient)",
    )


def _said(found: Sequence[Diagnostic]) -> str:
    return " | ".join(f"{each.message}; {each.fix}" for each in found)
