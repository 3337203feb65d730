"""What istiod's validation webhook refuses of ServiceEntries and WorkloadEntries, beyond their CRDs' schemas.

Public behaviour of istiod, which guards every cluster it runs in (`istio-validator-*`); the API server of the
tests has the CRDs' own rules, and no webhook.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from peerd.model.address import parse_ip

_TELL_HOSTS = {"http", "http2", "http_proxy", "grpc", "grpc-web", "https", "tls"}
_KNOWN = {*_TELL_HOSTS, "tcp", "udp", "mongo", "redis", "mysql", "hbone", "double-hbone"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def refusals(kind: str, tree: Mapping[str, Any]) -> list[str]:
    """What it would say of an object; nothing where it is admitted."""
    rules = {"ServiceEntry": _service_entry, "WorkloadEntry": _workload_entry}
    return list(rules[kind](tree["spec"]))


def _service_entry(spec: Mapping[str, Any]) -> Iterator[str]:
    hosts, ports = spec.get("hosts", []), spec.get("ports", [])
    if not hosts:
        yield "service entry must have at least one host"
    for host in hosts:
        yield from _host(host)
    for field in ("number", "name"):
        values = [port[field] for port in ports]
        if len(set(values)) != len(values):
            yield f"service entry port {field} is there twice: {values}"
    for port in ports:
        yield from _port(port)
    selector = spec.get("workloadSelector")
    if selector is not None and "endpoints" in spec:
        yield "only one of WorkloadSelector or Endpoints is allowed in Service Entry"
    for key, value in (selector or {}).get("labels", {}).items():
        if not key or "*" in f"{key}{value}" or not _LABEL_VALUE.fullmatch(value):
            yield f"workload selector {key}={value} is not valid"
    if selector is not None and not selector.get("labels"):
        yield "workload selector without labels selects everything"  # it only warns
    told = all(port.get("protocol", "").lower() in _TELL_HOSTS for port in ports)
    if spec.get("resolution", "NONE") != "NONE" and len(hosts) > 1 and not told:
        yield "multiple hosts provided with non-HTTP, non-TLS ports"


def _port(port: Mapping[str, Any]) -> Iterator[str]:
    if not _NAME.fullmatch(port["name"]):
        yield f"invalid port name: {port['name']}"
    if port.get("protocol", "") and port["protocol"].lower() not in _KNOWN:
        yield f"unsupported protocol: {port['protocol']}"
    for field in ("number", "targetPort"):
        if not 0 < port.get(field, 1) < 65536:
            yield f"port {port[field]} must be in the range 1..65535"


def _host(host: str) -> Iterator[str]:
    parts = host.removeprefix("*.").split(".")
    if len(host) > 255 or not all(map(_NAME.fullmatch, parts)):
        yield f"domain name {host} invalid"
    if parts[-1].isdigit():
        yield f"domain name {host} invalid (top level domain cannot be all-numeric)"


def _workload_entry(spec: Mapping[str, Any]) -> Iterator[str]:
    address = spec.get("address", "")
    if not address and not spec.get("network"):
        yield "address is required"
    if address and parse_ip(address) is None:
        yield from _host(address)
    for name, port in spec.get("ports", {}).items():
        yield from _port({"name": name, "number": port})
