"""Recorded cases: the objects that went into a real istiod, and what came out of it."""

import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from peerd.api.istio import security_pb2, workload_pb2
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.encode.address import address_payload
from peerd.encode.policy import policy_payload
from peerd.model.authorization import Authorization
from peerd.model.changes import ObjectChange
from peerd.model.mesh import Settings
from peerd.model.service import Service
from peerd.model.workload import Workload
from peerd.sources.manifests import parse

DERIVE = Path(__file__).parents[1] / "conformance" / "golden" / "derive"


def cases() -> list[str]:
    """The names of all recorded cases."""
    return sorted(path.name for path in DERIVE.iterdir() if path.is_dir())


def changes(text: bytes) -> list[ObjectChange]:
    """The objects of a multi-document YAML file, read as the directory source reads them (decision D7)."""
    manifest = parse("input.yaml", text, 0.0)
    assert not manifest.broken, manifest.broken
    return [ObjectChange(kind, key, found) for (kind, key), found in manifest.objects.items()]


def input_of(case: str) -> list[ObjectChange]:
    """The objects of a recorded case."""
    return changes((DERIVE / case / "input.yaml").read_bytes())


def expected_of(case: str) -> dict[str, Any]:
    """What istiod sent: `addresses` and `policies` by resource name."""
    found: dict[str, Any] = json.loads((DERIVE / case / "expected.json").read_bytes())
    return found


def derive(case: str, settings: Settings | None = None) -> Commit:
    """A recorded case derived from scratch."""
    return derived(input_of(case), settings)


def derived(objects: list[ObjectChange], settings: Settings | None = None) -> Commit:
    """What derivation says of *objects*."""
    world = World(settings or Settings())
    world.apply(objects)
    assert world.work()
    return world.commit()


def address_json(record: Workload | Service) -> dict[str, Any]:
    """A record as `expected.json` writes it."""
    message = workload_pb2.Address.FromString(address_payload(record))
    return _json(message)


def policy_json(record: Authorization) -> dict[str, Any]:
    """A policy as `expected.json` writes it."""
    return _json(security_pb2.Authorization.FromString(policy_payload(record)))


def normalised(kind: type[Message], tree: dict[str, Any]) -> dict[str, Any]:
    """The recorded JSON as our protobuf writes it: defaults left out, base64 in one form."""
    return _json(json_format.ParseDict(tree, kind()))


def _json(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found
