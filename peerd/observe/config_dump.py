"""`/debug/config_dump`: everything that is served, decoded from the bytes that ztunnels get.

At 50,000 Pods this is seconds of work, so it is done in a thread, on a snapshot of the frames.
"""

import asyncio
import ipaddress
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec

from peerd.encode.address import decode_address
from peerd.encode.frame import decode_frame
from peerd.encode.policy import decode_policy
from peerd.model.resource import Resource
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.model.workload import Workload
from peerd.resources.store import ResourceStore


async def config_dump(store: ResourceStore) -> dict[str, list[dict[str, Any]]]:
    """Workloads, services and policies by resource name, as ztunnel's own dump groups them."""
    frames = {url: _published(store, url) for url in (ADDRESS, AUTHORIZATION)}
    return await asyncio.to_thread(_decode, frames[ADDRESS], frames[AUTHORIZATION])


def _published(store: ResourceStore, type_url: str) -> list[Resource]:
    collection = store.collection(type_url)
    found = (collection.get(name) for name in sorted(collection.names()))
    return [resource for resource in found if resource is not None]


def _decode(addresses: Iterable[Resource], policies: Iterable[Resource]) -> dict[str, list[dict[str, Any]]]:
    dump: dict[str, list[dict[str, Any]]] = {"workloads": [], "services": [], "policies": []}
    for resource in addresses:
        record = decode_address(decode_frame(resource.frame).payload)
        dump["workloads" if isinstance(record, Workload) else "services"].append(_named(resource, record))
    for resource in policies:
        dump["policies"].append(_named(resource, decode_policy(decode_frame(resource.frame).payload)))
    return dump


def _named(resource: Resource, record: msgspec.Struct) -> dict[str, Any]:
    return {"resource": resource.name, "version": resource.version, **_plain(record)}


def _plain(value: Any) -> Any:
    """*value* for people: addresses as text, enumerations by name, what is at its default left out."""
    if isinstance(value, msgspec.Struct):
        kept = zip(value.__struct_fields__, _defaults(type(value)), strict=True)
        pairs = ((name, getattr(value, name), default) for name, default in kept)
        return {name: _plain(each) for name, each, default in pairs if each != default}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return str(ipaddress.ip_address(value)) if len(value) in {4, 16} else value.hex()
    return value.name if isinstance(value, IntEnum) else value


def _defaults(kind: type[msgspec.Struct]) -> tuple[Any, ...]:
    """One default per field, NODEFAULT where it has none."""
    missing = len(kind.__struct_fields__) - len(kind.__struct_defaults__)
    return (msgspec.NODEFAULT,) * missing + kind.__struct_defaults__
