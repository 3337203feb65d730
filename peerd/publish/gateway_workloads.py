"""A Gateway of class `istio-eastwest` as the objects that run it: pure, for server-side apply (decision D39).

Deployment (an unmodified Envoy and its companion), Service, ServiceAccount, PodDisruptionBudget, and a
HorizontalPodAutoscaler where its parameters ask for one. All of them, and the Pods, carry the labels and
annotations of `spec.infrastructure`. The parameters are a ConfigMap that the Gateway names in its
`parametersRef`: each key is an object whose fields are merged into ours.
"""

import json
import re
import types
from collections.abc import Mapping
from typing import Any

from peerd.derive import labels
from peerd.derive.gateway_config import exposed_port
from peerd.derive.gateways import gateway_service_account, hbone_port
from peerd.kubeapi.resources import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE, SERVICE_ACCOUNT
from peerd.limits import GATEWAY_TRUST_BYTES, hit
from peerd.model.gateway_config import READY_PATH, envoy_command
from peerd.model.generated import GENERATED_LABEL, GENERATED_VALUE
from peerd.model.kube.gateway import Gateway
from peerd.model.record import Record
from peerd.publish.names import ROOTS
from peerd.publish.ref import Ref

RESOURCES = (SERVICE_ACCOUNT, SERVICE, DEPLOYMENT, DISRUPTION_BUDGET, AUTOSCALER)
"""In the order in which they are written."""

PARAMETERS = {
    "deployment": DEPLOYMENT,
    "service": SERVICE,
    "serviceAccount": SERVICE_ACCOUNT,
    "podDisruptionBudget": DISRUPTION_BUDGET,
    "horizontalPodAutoscaler": AUTOSCALER,
}
"""Keys of the ConfigMap."""

MANAGED = "istio.io-eastwest-controller"
"""Marks the Service of an east-west gateway: it never has a waypoint (wire-contract §4.5)."""

_HEALTH, _STATS = 15021, 15020
_DRAIN_SECONDS = 30
_USER = 65_532
_DIRECTORY = "/var/run/peerd-gateway"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""What a Service and a label's value may be called, both."""
_ACCOUNT = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_SERVICE_TYPES = {"loadbalancer": "LoadBalancer", "nodeport": "NodePort", "clusterip": "ClusterIP"}


class Installation(Record, frozen=True):
    """What all gateways of a cluster have in common.

    `image` holds `peerd gateway`, `envoy_image` an unmodified Envoy. `host` is peerd's own Service, `ca_host`
    the CA's, which beside istiod is istiod's (decision D34). Gateways are run in `system_namespace` and
    `namespaces`.
    """

    image: str
    envoy_image: str
    host: str
    ca_host: str
    cluster_id: str
    trust_domain: str
    system_namespace: str
    peerd_account: str = "peerd"
    namespaces: tuple[str, ...] = ()
    xds_port: int = 15016
    ca_port: int = 15012
    peers_port: int = 15013


class ParameterError(ValueError):
    """A Gateway, or a parameter of it, cannot be used; the text names the field and what to write."""


def workloads(
    gateway: Gateway,
    parameters: Mapping[str, Any],
    installation: Installation,
    other_roots: Mapping[str, bytes] = types.MappingProxyType({}),
) -> dict[Ref, dict[str, Any]]:
    """Every object of one Gateway, in the order of RESOURCES.

    *other_roots* are PEM by trust domain: callers of those are admitted, too. They are a part of the
    Deployment, so that replicas are replaced, one by one and drained, when they change.

    Raises:
        ParameterError: no Service or account may be called so, a key is unknown or no object, or the roots
            are too many.
    """
    _check(gateway)
    for key, value in parameters.items():
        if key not in PARAMETERS:
            raise ParameterError(f"{key}: is unknown; write one of {', '.join(PARAMETERS)}")
        if not isinstance(value, Mapping):
            raise ParameterError(f"{key}: is {value!r}; write the object's fields, as YAML")
    scaled = "horizontalPodAutoscaler" in parameters
    made = {
        SERVICE_ACCOUNT: {},
        SERVICE: _service(gateway),
        DEPLOYMENT: _deployment(gateway, installation, _trust(installation, other_roots), scaled=scaled),
        DISRUPTION_BUDGET: {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(gateway)}}},
    }
    if scaled:
        made[AUTOSCALER] = {
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": gateway.metadata.name,
                },
                "minReplicas": 2,
            }
        }
    for key, resource in PARAMETERS.items():
        if resource in made:
            made[resource] = merge(_furnished(gateway, made[resource]), parameters.get(key, {}))
    budget = made[DISRUPTION_BUDGET].get("spec")
    if isinstance(budget, dict) and budget.get("minAvailable") is not None:
        budget.pop("maxUnavailable", None)  # one or the other
    found = {}
    for resource, tree in made.items():
        name = gateway_service_account(gateway) if resource is SERVICE_ACCOUNT else gateway.metadata.name
        ref = Ref(resource, gateway.metadata.namespace, name)
        # Last, so that no parameter takes away what says whose it is.
        found[ref] = merge(tree, {"metadata": _metadata(gateway, name)})
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """*over* in *base*: maps key by key, lists of named things by name, all else replaced."""
    found = dict(base)
    for key, value in over.items():
        before = found.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found[key] = merge(before, value)
        elif isinstance(before, list) and isinstance(value, list) and _named(before) and _named(value):
            by_name = {each["name"]: each for each in before}
            for each in value:
                by_name[each["name"]] = merge(by_name.get(each["name"], {}), each)
            found[key] = list(by_name.values())
        else:
            found[key] = value
    return found


def _named(found: list[Any]) -> bool:
    return bool(found) and all(
        isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in found
    )


def _check(gateway: Gateway) -> None:
    meta, account = gateway.metadata, gateway_service_account(gateway)
    if not _NAME.fullmatch(meta.name):
        raise ParameterError(
            f"metadata.name: {meta.name!r} can be no Service's; take up to 63 of a-z, 0-9, -, first a letter"
        )
    if not _ACCOUNT.fullmatch(account):
        raise ParameterError(
            f"metadata.annotations[gateway.istio.io/service-account]: {account!r} can be no account's name"
        )


def _furnished(gateway: Gateway, tree: dict[str, Any]) -> dict[str, Any]:
    """With the labels and annotations of `spec.infrastructure`; of labels our own hold."""
    wanted = gateway.spec.infrastructure
    if not wanted.labels and not wanted.annotations:
        return tree

    def furnished(meta: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **meta,
            "labels": {**wanted.labels, **meta.get("labels", {})},
            "annotations": {**meta.get("annotations", {}), **wanted.annotations},
        }

    found = {**tree, "metadata": furnished(tree.get("metadata", {}))}
    template = tree.get("spec", {}).get("template")
    if template is not None:
        template = {**template, "metadata": furnished(template["metadata"])}
        found["spec"] = {**tree["spec"], "template": template}
    return found


def _selector(gateway: Gateway) -> dict[str, str]:
    return {labels.GATEWAY_NAME: gateway.metadata.name}


def _metadata(gateway: Gateway, name: str) -> dict[str, Any]:
    meta = gateway.metadata
    owner = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
    }
    found: dict[str, Any] = {
        "name": name,
        "namespace": meta.namespace,
        "labels": {**_selector(gateway), labels.GATEWAY_MANAGED: MANAGED, GENERATED_LABEL: GENERATED_VALUE},
    }
    # With the Gateway goes what it owns, whether or not peerd is there to see it.
    return found | ({"ownerReferences": [owner]} if meta.uid else {})


def _ports(gateway: Gateway) -> dict[str, int]:
    """Listeners by name; a Gateway without an HBONE listener passes peers on and nothing else."""
    found = {"hbone": hbone_port(gateway), "peers": exposed_port(gateway) or 0}
    return {name: port for name, port in found.items() if port} | {"status": _HEALTH}


def _service(gateway: Gateway) -> dict[str, Any]:
    word = gateway.metadata.annotations.data_plane.lower()
    return {
        "spec": {
            "type": _SERVICE_TYPES.get(word, "LoadBalancer"),
            "selector": _selector(gateway),
            "ports": [
                {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
                for name, port in _ports(gateway).items()
            ],
        }
    }


def _trust(installation: Installation, other_roots: Mapping[str, bytes]) -> list[dict[str, str]]:
    """The companion's variable of other trust domains; none where there are none."""
    found = {name: pem.decode("ascii") for name, pem in sorted(other_roots.items())}
    found.pop(installation.trust_domain, None)
    text = json.dumps(found)
    if len(text) > GATEWAY_TRUST_BYTES.value:
        hit(GATEWAY_TRUST_BYTES)
        raise ParameterError(
            f"the mesh configuration's caCertificates of other trust domains have {len(text)} bytes, and"
            f" {GATEWAY_TRUST_BYTES.value} can be handed to a gateway; take out roots that nobody uses"
        )
    return [{"name": "PEERD_GATEWAY_TRUST_JSON", "value": text}] if found else []


def _deployment(
    gateway: Gateway, installation: Installation, trust: list[dict[str, str]], *, scaled: bool
) -> dict[str, Any]:
    meta = gateway.metadata
    selector = _selector(gateway)
    network = {labels.NETWORK: meta.labels[labels.NETWORK]} if labels.NETWORK in meta.labels else {}
    mounts = [
        {"name": "gateway", "mountPath": _DIRECTORY},
        {"name": "token", "mountPath": "/var/run/secrets/tokens", "readOnly": True},
        {"name": "roots", "mountPath": "/var/run/secrets/istio", "readOnly": True},
    ]
    companion = {
        "image": installation.image,
        "env": [_field("POD_NAME", "metadata.name"), _field("POD_IPS", "status.podIPs"), *trust],
        "volumeMounts": mounts,
        "securityContext": _CONTAINED,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }
    arguments = ["gateway", *_arguments(gateway, installation)]
    envoy = {
        "name": "envoy",
        "image": installation.envoy_image,
        "command": ["envoy"],
        "args": envoy_command(),
        "workingDir": _DIRECTORY,
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in (_ports(gateway) | {"metrics": _STATS}).items()
        ],
        "readinessProbe": {
            "httpGet": {"path": READY_PATH, "port": _HEALTH},
            "periodSeconds": 2,
            "failureThreshold": 1,
        },
        # The companion drains it, and ends it when it is done.
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS + 5}}},
        "volumeMounts": mounts[:1],
        "securityContext": _CONTAINED,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    }
    spec = {
        "serviceAccountName": gateway_service_account(gateway),
        "terminationGracePeriodSeconds": _DRAIN_SECONDS + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
            for key in (labels.ZONE, "kubernetes.io/hostname")
        ],
        "initContainers": [{"name": "identity", **companion, "args": [*arguments, "--once"]}],
        "containers": [envoy, {"name": "companion", **companion, "args": arguments}],
        "volumes": [
            # Keys never leave the Pod, and never touch a disk.
            {"name": "gateway", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": "istio-ca",
                                "expirationSeconds": 43_200,
                                "path": "istio-token",
                            }
                        }
                    ]
                },
            },
            {"name": "roots", "configMap": {"name": ROOTS}},
        ],
    }
    template = {
        "metadata": {
            "labels": selector | network | {"istio.io/dataplane-mode": "none"},
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(_STATS),
                "prometheus.io/path": "/stats/prometheus",
            },
        },
        "spec": spec,
    }
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    found = {"selector": {"matchLabels": selector}, "strategy": strategy, "template": template}
    # Who scales it says how many there are.
    return {"spec": found if scaled else {"replicas": 2, **found}}


def _arguments(gateway: Gateway, installation: Installation) -> list[str]:
    host = installation.host
    given = {
        "gateway": str(gateway.key),
        "account": gateway_service_account(gateway),
        "dir": _DIRECTORY,
        "xds": f"{host}:{installation.xds_port}",
        "ca": f"{installation.ca_host}:{installation.ca_port}",
        "peers": f"{host}:{installation.peers_port}",
        "roots": "/var/run/secrets/istio/root-cert.pem",
        "token": "/var/run/secrets/tokens/istio-token",
        "trust-domain": installation.trust_domain,
        "system-namespace": installation.system_namespace,
        "peerd-account": installation.peerd_account,
        "cluster-id": installation.cluster_id,
        "pod": "$(POD_NAME)",
        "ip": "$(POD_IPS)",
        "drain-seconds": str(_DRAIN_SECONDS),
        "log-format": "json",
    }
    return [f"--{name}={value}" for name, value in given.items()]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


_CONTAINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
