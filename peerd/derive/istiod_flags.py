"""What istiod's Deployments say of the two flags that matter beside it (decision D41)."""

from collections.abc import Iterable

from peerd.derive import labels
from peerd.model.generated import IstiodFlags
from peerd.model.kube.apps import DeployedContainer, Deployment

APP = "app"
ISTIOD = "istiod"
SELECT = "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES"
MULTI_NETWORK = "AMBIENT_ENABLE_MULTI_NETWORK"

_CONTAINER = "discovery"
# What Go's ParseBool takes for false; Istio reads its flags with it.
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


def istiod_flags(
    deployments: Iterable[Deployment],
    *,
    namespace: str,
    revision: str = "",
    before: IstiodFlags | None = None,
) -> IstiodFlags:
    """Whether every istiod of our revision among *deployments* reads entries as it must.

    One whose Pods are still being replaced counts as what it was *before* if its new Pods will be right: the
    old ones may be wrong. No istiod at all says nothing new either; nobody reads entries then.
    """
    found = sorted(
        (each for each in deployments if _is_istiod(each, revision)), key=lambda each: each.metadata.name
    )
    if not found:
        problem = f"no Deployment with label {APP}={ISTIOD} is in {namespace}, so its flags are unknown"
        return before if before is not None else IstiodFlags(False, problem, f"Namespace/{namespace}")
    waiting: IstiodFlags | None = None
    for each in found:
        where = f"Deployment/{each.key}"
        problem, flag = _problem(each)
        if problem:
            return IstiodFlags(False, problem, where, flag)
        if not _rolled_out(each):
            waiting = IstiodFlags(
                False, "its Pods are being replaced; older ones may have other flags", where
            )
    was_safe = before is not None and before.safe
    return IstiodFlags(True) if waiting is None or was_safe else waiting


def _is_istiod(found: Deployment, revision: str) -> bool:
    meta = found.metadata
    # A peerd that serves ztunnels itself has istiod's label, for istioctl's sake (decision D35).
    ours = meta.labels.get("app.kubernetes.io/name") == "peerd"
    return meta.labels.get(APP) == ISTIOD and not ours and labels.in_revision(meta.labels, revision)


def _rolled_out(found: Deployment) -> bool:
    status = found.status
    return (
        status.observed_generation >= found.metadata.generation and status.updated_replicas == status.replicas
    )


def _problem(found: Deployment) -> tuple[str, str]:
    """What is wrong, empty where nothing is, and the flag that is."""
    containers = found.spec.template.spec.containers
    container = next((each for each in containers if each.name == _CONTAINER), None)
    if container is None:
        return f"it has no container {_CONTAINER}, so its flags are unknown", ""
    select, multi_network = _value(container, SELECT), _value(container, MULTI_NETWORK)
    for name, value in ((SELECT, select), (MULTI_NETWORK, multi_network)):
        if value is None:
            return f"{name} is taken from elsewhere, so it is unknown", name
    if select not in _FALSE:
        return f"{SELECT} is {select or 'not set'}; it must be false", SELECT
    if multi_network and multi_network not in _FALSE:
        return f"{MULTI_NETWORK} is {multi_network}; it must not be true", MULTI_NETWORK
    if not multi_network and container.env_from:
        return f"{MULTI_NETWORK} may be among what envFrom brings, so it is unknown", MULTI_NETWORK
    return "", ""


def _value(container: DeployedContainer, name: str) -> str | None:
    """The variable's value, empty where it is not set, None where it is written elsewhere."""
    value: str | None = ""
    for each in container.env:
        if each.name == name:  # of two the last one counts
            value = each.value if each.value_from is None else None
    return value
