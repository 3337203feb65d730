"""What an API server would have filled in: manifests written by hand lack it (decision D7).

Each function takes a decoded record and gives it back completed, with warnings about what an API server would
have allocated and a file cannot.
"""

import ipaddress
from collections.abc import Callable
from typing import Any, cast

import msgspec

from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube import core, gateway
from peerd.model.kube.kinds import GATEWAY, POD, SERVICE, Kind
from peerd.model.kube.meta import KubeObject

Warn = Callable[[str, str, str], None]
"""Called with field, message and fix."""


def complete(kind: Kind, value: KubeObject, where: str) -> tuple[KubeObject, tuple[Diagnostic, ...]]:
    """*value* as an API server would return it, and warnings about what is missing for good."""
    found: list[Diagnostic] = []
    label = object_label(kind, value.metadata.namespace, value.metadata.name)

    def warn(field: str, message: str, fix: str) -> None:
        found.append(Diagnostic(label, field, message, fix, Severity.WARNING, where))

    completer = _COMPLETERS.get(kind.name)
    return (completer(value, warn) if completer is not None else value), tuple(found)


def object_label(kind: Kind, namespace: str, name: str) -> str:
    """How diagnostics name objects: `<Kind>/<namespace>/<name>`, cluster-scoped ones `<Kind>/<name>`."""
    return f"{kind.name}/{namespace}/{name}" if kind.namespaced else f"{kind.name}/{name}"


def _pod(value: KubeObject, warn: Warn) -> core.Pod:
    pod = cast("core.Pod", value)
    spec, status = pod.spec, pod.status
    if not spec.service_account_name:
        spec = msgspec.structs.replace(spec, service_account_name="default")
    if status.pod_ips and not status.pod_ip:
        status = msgspec.structs.replace(status, pod_ip=status.pod_ips[0].ip)
    elif status.pod_ip and not status.pod_ips:
        status = msgspec.structs.replace(status, pod_ips=(core.PodIP(status.pod_ip),))
    if not status.pod_ip and status.phase not in {"Succeeded", "Failed"}:
        warn("status.podIP", "has no address, so the Pod is not served", "set status.podIP and status.podIPs")
    return msgspec.structs.replace(pod, spec=spec, status=status)


def _service(value: KubeObject, warn: Warn) -> core.Service:
    service = cast("core.Service", value)
    spec = service.spec
    changed: dict[str, Any] = {
        "ports": tuple(
            port if port.target_port else msgspec.structs.replace(port, target_port=port.port)
            for port in spec.ports
        ),
        "internal_traffic_policy": spec.internal_traffic_policy or "Cluster",
    }
    if spec.type == "ExternalName":
        return service
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    if not addresses:
        warn(
            "spec.clusterIP",
            "is not set, and no API server is here to allocate one, so the Service has no address",
            'set spec.clusterIP to an address, or to "None" for a headless Service',
        )
    changed["cluster_ips"] = addresses
    changed["cluster_ip"] = spec.cluster_ip or (addresses[0] if addresses else "")
    if not spec.ip_families:
        changed["ip_families"] = _families(addresses)
    return msgspec.structs.replace(service, spec=msgspec.structs.replace(spec, **changed))


def _families(addresses: tuple[str, ...]) -> tuple[str, ...]:
    families: list[str] = []
    for text in addresses:
        try:
            family = f"IPv{ipaddress.ip_address(text).version}"
        except ValueError:
            continue  # "None", or an error that derivation reports with the field
        if family not in families:
            families.append(family)
    return tuple(families)


def _gateway(value: KubeObject, _warn: Warn) -> gateway.Gateway:
    # The default of both type fields is IPAddress (Gateway API); a controller would copy wanted addresses
    # into the status once it provides them, and no controller is here (D7).
    gw = cast("gateway.Gateway", value)
    wanted = tuple(_typed(address) for address in gw.spec.addresses)
    given = tuple(_typed(address) for address in gw.status.addresses) or wanted
    return msgspec.structs.replace(
        gw,
        spec=msgspec.structs.replace(gw.spec, addresses=wanted),
        status=msgspec.structs.replace(gw.status, addresses=given),
    )


def _typed(address: gateway.GatewayAddressField) -> gateway.GatewayAddressField:
    return address if address.type else msgspec.structs.replace(address, type="IPAddress")


_COMPLETERS: dict[str, Callable[[KubeObject, Warn], KubeObject]] = {
    POD.name: _pod,
    SERVICE.name: _service,
    GATEWAY.name: _gateway,
}
