"""Aliases of a segment: host names made from templates, and whom a name belongs to that several want (D25).

A template is text with `{service}`, `{namespace}`, `{labels['k']}` and `{annotations['k']}`. The exporter
makes the names, for it alone knows the Service; an importer takes in those that a template of its own Segment
could have made, so that no peer gives itself a name nobody here has thought of (decision D23).
"""

import re
from collections.abc import Iterable, Mapping

from peerd.derive import labels
from peerd.model.kube.istio import Segment
from peerd.model.record import Record

_PLACE = re.compile(r"\{(?:(service|namespace)|(labels|annotations)\['([^'{}]+)'\])\}")
_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ANY = r"[-.a-z0-9]+"
_LONGEST = 253


class Alias(Record, frozen=True):
    """One template, and whose names it makes."""

    pattern: str
    selector: labels.Labels


class Named(Record, frozen=True):
    """What a template may say of a Service."""

    name: str
    namespace: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


def fault(pattern: str) -> str:
    """What is wrong with a template; empty where nothing is."""
    if not pattern:
        return "is empty"
    rest = _PLACE.sub("x", pattern)
    if "{" in rest or "}" in rest:
        return f"{pattern!r} has a place that is none of service, namespace, labels['…'], annotations['…']"
    return "" if is_host(rest) else f"{pattern!r} makes no host name"


def is_host(text: str) -> bool:
    """Whether *text* is a host name, as DNS and ztunnel have it: lower case, no dot at the end."""
    return _HOST.fullmatch(text) is not None


def usable(segment: Segment | None) -> tuple[Alias, ...]:
    """The aliases of a segment that can be used."""
    return tuple(
        Alias(alias.pattern, labels.freeze(alias.selector.match_labels))
        for alias in (() if segment is None else segment.spec.aliases)
        if not fault(alias.pattern)
    )


def made(aliases: Iterable[Alias], service: Named, *, reserved: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a Service, sorted; one that lacks a label or annotation silently has no such name.

    Names in a *reserved* domain, the cluster's or the segment's, belong to their services.
    """
    hosts = {
        host
        for alias in aliases
        if labels.contains(service.labels, alias.selector)
        and (host := _made(alias.pattern, service)) is not None
        and _is_free(host, reserved)
    }
    return tuple(sorted(hosts))


def admitted(
    aliases: Iterable[Alias], service: Named, hosts: Iterable[str], *, reserved: tuple[str, ...]
) -> tuple[str, ...]:
    """Those of *hosts* that a template could have made for a peer's service."""
    could = [re.compile(_could_be(alias.pattern, service)) for alias in aliases]
    return tuple(
        host
        for host in hosts
        if _is_free(host, reserved) and any(pattern.fullmatch(host) for pattern in could)
    )


def _made(pattern: str, service: Named) -> str | None:
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        word, mapping, key = found.groups()
        if word is not None:
            return service.name if word == "service" else service.namespace
        values = service.labels if mapping == "labels" else service.annotations
        missing = missing or key not in values
        return values.get(key, "")

    host = _PLACE.sub(value, pattern)
    return None if missing else host


def _could_be(pattern: str, service: Named) -> str:
    parts: list[str] = []
    at = 0
    for found in _PLACE.finditer(pattern):
        parts.append(re.escape(pattern[at : found.start()]))
        own = {"service": service.name, "namespace": service.namespace}.get(found[1] or "")
        parts.append(_ANY if own is None else re.escape(own))
        at = found.end()
    return "".join((*parts, re.escape(pattern[at:])))


def _is_free(host: str, reserved: tuple[str, ...]) -> bool:
    return (
        len(host) <= _LONGEST
        and is_host(host)
        and not any(f".{host}".endswith(f".{domain}") for domain in reserved)
    )
