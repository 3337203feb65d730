"""Beside istiod: every scenario's objects, and what istiod makes of them against standalone peerd.

The scenarios are those of tests/conformance/scenarios; istiod is the model of tests/support/istiod_model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peerd.model.generated import IstiodFlags
from peerd.model.kube.core import Service as KubeService
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.conformance.beside.exceptions import EXCEPTIONS
from tests.support.beside import (
    SAFE,
    SCENARIOS,
    UNSAFE,
    Beside,
    Records,
    Seen,
    as_istiod_knows,
    manifests,
    shape,
)
from tests.support.istiod_model import Flags
from tests.support.istiod_webhook import refusals
from tests.support.scenarios import Scenario

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
# Read by people: each shape of object, and each way to come and go.
REVIEWED = [
    "endpoints-by-zone", "endpoints-named-target-port", "failover-and-back",
    "names-same-in-two-namespaces", "network-flat", "network-flat-and-separate", "network-flat-takeover",
    "partition-stale-counts-little", "remote-only-service", "routing-prefer-close", "scope-one-side-only",
    "segment-aliases", "segment-between-tenants", "segment-own-domain", "takeover-allowed-by-gateway",
    "takeover-only-here", "takeover-outlives-service", "takeover-without-service", "topology-full-mesh",
    "topology-unlinked", "waypoint-local",
]  # fmt: skip


def _differences(standalone: Scenario, beside: Beside) -> Iterator[str]:
    """The parts that differ now, each as `<host>: <field>`."""
    for name, cluster in standalone.clusters.items():
        expected = shape(cluster.addresses.values(), cluster=name)
        found = shape(beside.told(name).values(), cluster=name)
        for host in sorted(expected.keys() | found.keys()):
            mine, theirs = expected.get(host), found.get(host)
            if not isinstance(mine, dict) or not isinstance(theirs, dict):
                if mine != theirs:
                    yield host
                continue
            mine = {**mine, "prefers": as_istiod_knows(host, mine["prefers"])}
            yield from (f"{host}: {field}" for field in mine if mine[field] != theirs[field])


@pytest.mark.parametrize("name", NAMES)
def test_istiod_serves_what_standalone_peerd_would(name: str) -> None:
    """The same Services, endpoints, gateways, capacities, identities; each exception is listed and needed."""
    standalone, beside = Scenario(SCENARIOS / f"{name}.yaml"), Beside(name)
    differing: set[str] = set()
    for _ in zip(standalone.steps(), beside.steps(), strict=True):
        differing |= set(_differences(standalone, beside))
        for cluster, played in standalone.clusters.items():
            assert beside.clusters[cluster].exports == played.exports, "what is exported is no matter of mode"
    allowed = EXCEPTIONS[name].parts if name in EXCEPTIONS else frozenset()
    assert differing == allowed


@pytest.mark.parametrize("name", NAMES)
def test_requests_arrive_where_they_should(name: str) -> None:
    """ztunnels that istiod tells send every question of a scenario where the scenario says."""
    beside = Beside(name)
    asked = [
        beside.script.get("ask") or {},
        *(step.get("ask") or {} for step in beside.script.get("then", [])),
    ]
    wrong: set[str] = set()
    for ask, _ in zip(asked, beside.steps(), strict=True):
        seen = {each: Seen(cluster, beside.told(each)) for each, cluster in beside.clusters.items()}
        wrong |= {answer.partition(": ")[0] for answer in beside.wrong(ask, seen)}
    assert wrong == (EXCEPTIONS[name].asks if name in EXCEPTIONS else frozenset())


@pytest.mark.parametrize("flags", [SAFE, UNSAFE], ids=["right", "wrong"])
@pytest.mark.parametrize("name", NAMES)
def test_istiods_webhook_admits_every_object(name: str, flags: IstiodFlags) -> None:
    """Nothing is written that a cluster with an istiod would refuse, in any step of any scenario."""
    beside = Beside(name, flags)
    for step, _, _ in beside.steps():
        for cluster in beside.clusters.values():
            for key, tree in manifests(cluster.generated).items():
                assert refusals(key.partition("/")[0], tree) == [], f"{step}: {key}"


@pytest.mark.parametrize("name", REVIEWED)
def test_objects_are_as_reviewed(name: str, request: pytest.FixtureRequest) -> None:
    """What is written in each cluster, step by step, as it was read by people."""
    beside = Beside(name)
    assert _written(beside) == _reviewed(name, _written(Beside(name)), request)


@pytest.mark.parametrize("name", ["failover-and-back", "takeover-without-service"])
def test_objects_without_the_flags_are_as_reviewed(name: str, request: pytest.FixtureRequest) -> None:
    """All in the system namespace, under a private label, and told on each Service."""
    found = _written(Beside(name, UNSAFE))
    assert found == _reviewed(f"{name}-unsafe", found, request)


def _written(beside: Beside) -> dict[str, Any]:
    before: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for step, _, _ in beside.steps():
        now = {name: manifests(cluster.generated) for name, cluster in beside.clusters.items()}
        found[step] = {
            name: {
                key: objects.get(key)
                for key in sorted(objects.keys() | before.get(name, {}).keys())
                if objects.get(key) != before.get(name, {}).get(key)
            }
            for name, objects in now.items()
        }
        before = now
    return found


def _reviewed(name: str, found: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    path = HERE / "objects" / f"{name}.yaml"
    if request.config.getoption("--refresh-objects"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(found, sort_keys=False, width=110, allow_unicode=True), "utf-8")
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "running",
    [Flags(services_select_entries=True), Flags(services_select_entries=True, multi_network=True), Flags()],
    ids=["defaults", "multi-network", "right"],
)
@pytest.mark.parametrize("read", [None, UNSAFE], ids=["unknown", "wrong"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_ordinary_gains_an_endpoint(name: str, read: IstiodFlags | None, running: Flags) -> None:
    """With istiod's flags unknown or wrong, no Service has an endpoint that it would not have without us."""
    beside = Beside(name, read)
    for step, _, _ in beside.steps():
        for cluster in beside.clusters:
            objects = beside.objects(cluster)
            without = _ordinary(beside.told(cluster, running, without=True), objects)
            assert _ordinary(beside.told(cluster, running), objects) == without, step


def test_wrong_flags_would_be_noticed() -> None:
    """The control: objects for the right flags, read by an istiod with its defaults, do change a Service."""
    beside = Beside("failover-and-back")
    next(beside.steps())
    objects = beside.objects("east")
    without = _ordinary(beside.told("east", without=True), objects)
    assert _ordinary(beside.told("east", Flags(services_select_entries=True)), objects) != without
    assert _ordinary(beside.told("east"), objects) == without


def _ordinary(told: Records, objects: list[Any]) -> dict[str, Any]:
    """The cluster's own Services and their endpoints."""
    own = {found.key for found in objects if isinstance(found, KubeService)}
    services = {
        record.resource_name: record
        for record in told.values()
        if isinstance(record, Service)
        and any((key.namespace, key.name) == (record.namespace, record.name) for key in own)
        and ".svc." in record.hostname
    }
    members: dict[str, Any] = {name: (record, []) for name, record in services.items()}
    for record in told.values():
        if isinstance(record, Workload):
            for entry in record.services:
                if entry.service in members:
                    members[entry.service][1].append((record.uid, entry))
    return members
