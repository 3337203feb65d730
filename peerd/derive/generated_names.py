"""What generated objects are called, and the private labels that tie them together (decisions D27, D36).

A name says what it stands for as long as an API server takes it. Where it would not, or where two things
could come to one name, what is not allowed is replaced and a hash of the whole is added; the hash alone tells
names apart then, and its length tells them from names without one.
"""

import hashlib
import re

LOCAL = "svc"
"""The role of a ServiceEntry that serves a local host name alone, because not all peers may (D23)."""

ENTRY_LABEL = "peering.peerd.io/entry"
LOCAL_ENTRY_LABEL = "peering.peerd.io/entry-local"
"""By these ServiceEntries select their WorkloadEntries where nobody else's selector is to match."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST_NAME = 253
_LONGEST_VALUE = 63


def service_entry_name(namespace: str, name: str, role: str = "") -> str:
    """`autogen.<ns>.<svc>`; with a *role*, LOCAL or another segment's domain, `autogen.<role>.<ns>.<svc>`.

    Plain names have two or three parts after the prefix, names with a hash four: they cannot meet.
    """
    parts = [part for part in (role, namespace, name) if part]
    plain = "autogen." + ".".join(parts)
    if all(map(_LABEL.fullmatch, parts)):
        return plain  # at most 199 characters
    while len(parts) < 3:
        parts.insert(0, "x")
    # NUL is in no name: joined by it, different parts cannot look alike.
    exact = "\0".join((role, namespace, name))
    return _hashed(["autogen", *(part.replace(".", "-") for part in parts)], exact)


def workload_entry_name(uid: str, cluster: str, namespace: str, name: str) -> str:
    """The name of the entry for a remote Workload: its uid where that is a name, as behind gateways.

    Endpoints on our own network are `autogenflat.<cluster>.<ns>.<pod>.<12 hex>`.
    """
    if not uid.startswith("autogen"):
        digest = hashlib.sha256(uid.encode()).hexdigest()[:12]
        return _valid(f"autogenflat.{cluster}.{namespace}.{name}.{digest}", uid)
    return _valid(uid, uid)


def label_value(name: str) -> str:
    """*name*, the name of a generated object, as the value of a label: long ones end in their hash."""
    if len(name) <= _LONGEST_VALUE:
        return name
    return f"{name[:40].rstrip('.-')}.{_digest(name)}"


def _valid(name: str, exact: str) -> str:
    parts = name.split(".")
    if len(name) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, parts)):
        return name
    return _hashed(parts, exact)


def _hashed(parts: list[str], exact: str) -> str:
    room = _LONGEST_NAME - 17
    kept = [re.sub(r"[^a-z0-9-]", "-", part.lower())[:_LONGEST_VALUE].strip("-") or "x" for part in parts]
    text = ".".join(kept)
    if len(text) > room:
        text = text[:room].rstrip(".-")
    return f"{text}.{_digest(exact)}"


def _digest(text: str) -> str:
    # Peers choose names: their hash must not be one that can be met on purpose.
    return hashlib.sha256(text.encode()).hexdigest()[:16]
