"""Generated records as manifests, for server-side apply (decisions D36, D38; docs/beside-istiod.md).

Only what is said is written: an absent field, not an empty one, so that the API server has nothing to add.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from peerd.kubeapi.resources import SERVICE_ENTRY, WORKLOAD_ENTRY
from peerd.model.federation import Takeover
from peerd.model.generated import (
    GENERATED_LABEL,
    GENERATED_VALUE,
    Generated,
    GeneratedPort,
    GeneratedServiceEntry,
    GeneratedWorkloadEntry,
)
from peerd.publish.ref import Ref

RESOURCES = {resource.kind: resource for resource in (SERVICE_ENTRY, WORKLOAD_ENTRY)}

SERVICE = "peering.peerd.io/service"
CLUSTER = "peering.peerd.io/cluster"
GATEWAY = "peering.peerd.io/gateway"
TAKEOVER = "peering.peerd.io/takeover"
CLUSTERS = "peering.peerd.io/clusters"
ALIASES = "solo.io/service-aliases"
_RULE = "rule"
REDIRECTION = "ambient.istio.io/redirection"


def ref_of(key: str) -> Ref:
    """The object of a key of `Commit.generated`: `<Kind>/<namespace>/<name>`."""
    kind, namespace, name = key.split("/")
    return Ref(RESOURCES[kind], namespace, name)


def order_of(ref: Ref) -> int:
    """ServiceEntries are written before what they select, and deleted after it."""
    return 0 if ref.resource is SERVICE_ENTRY else 1


def manifest(found: Generated, takeover: Takeover | None = None, clusters: str = "") -> dict[str, Any]:
    """The fields of an object that are ours.

    In a ServiceEntry *takeover* is recorded (decision D23), and *clusters* told: who serves the name where no
    Service of ours does (ADR 9).
    """
    if isinstance(found, GeneratedServiceEntry):
        return _service_entry(found, takeover, clusters)
    return _workload_entry(found)


def takeover_of(tree: Mapping[str, Any]) -> tuple[str, Takeover | None]:
    """The service of a generated ServiceEntry, and the takeover that is recorded in it."""
    annotations = tree["metadata"].get("annotations") or {}
    word = annotations.get(TAKEOVER, "")
    return annotations.get(SERVICE, ""), Takeover(by_rule=word == _RULE) if word else None


def _service_entry(found: GeneratedServiceEntry, takeover: Takeover | None, clusters: str) -> dict[str, Any]:
    annotations = {
        SERVICE: found.service,
        ALIASES: ",".join(found.aliases),
        TAKEOVER: "" if takeover is None else _RULE if takeover.by_rule else "label",
        CLUSTERS: clusters,
        **dict(found.annotations),
    }
    spec = {
        "hosts": list(found.hosts),
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [_port(port) for port in found.ports],
        "workloadSelector": {"labels": dict(found.selector)},
        "subjectAltNames": list(found.subject_alt_names),
    }
    return {
        "metadata": _metadata(found, found.labels, annotations),
        "spec": _said(spec),
    }


def _port(port: GeneratedPort) -> dict[str, Any]:
    said = {"number": port.number, "name": port.name, "protocol": port.protocol, "targetPort": port.target}
    return _said(said)


def _workload_entry(found: GeneratedWorkloadEntry) -> dict[str, Any]:
    spec = {
        "address": found.address,
        "network": found.network,
        "weight": found.weight,
        "locality": found.locality,
        "serviceAccount": found.service_account,
        "ports": dict(found.ports),
    }
    annotations = {REDIRECTION: "enabled", CLUSTER: found.cluster, GATEWAY: found.gateway}
    return {
        "metadata": _metadata(found, found.labels, annotations),
        "spec": _said(spec),
    }


def _metadata(
    found: Generated, labels: Iterable[tuple[str, str]], annotations: dict[str, str]
) -> dict[str, Any]:
    return {
        "namespace": found.namespace,
        "name": found.name,
        "labels": {**dict(labels), GENERATED_LABEL: GENERATED_VALUE},
        "annotations": _said(annotations),
    }


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
