"""The model of istiod's reading says what a real istiod was recorded to say."""

from typing import Any

import pytest

from peerd.api.istio import workload_pb2
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.golden import address_json, expected_of, input_of, normalised
from tests.support.istiod_model import Flags, istiod

# Recorded with istiod's defaults: Services select WorkloadEntries, no multi-network.
DEFAULTS = Flags(services_select_entries=True)
CASES = [
    "canonical-and-owners", "duplicate-hosts", "localities", "networks", "pods-lifecycle",
    "service-entry-selector", "service-kinds", "traffic-distribution", "waypoint-canary", "waypoints",
    "workload-entries",
]  # fmt: skip
# What global services need of a record; the rest (owners, policies, waypoints of workloads) is not modelled.
SERVICE_FIELDS = (
    "hostname", "addresses", "subject_alt_names", "load_balancing", "waypoint", "weighted_waypoints",
    "canonical",
)  # fmt: skip
WORKLOAD_FIELDS = (
    "addresses", "hostname", "network", "tunnel_protocol", "service_account", "status", "services",
    "locality", "capacity", "node",
)  # fmt: skip


def _part(tree: dict[str, Any]) -> dict[str, Any]:
    if "service" in tree:
        found = {field: tree["service"].get(field) for field in SERVICE_FIELDS}
        ports = tree["service"].get("ports", [])
        found["ports"] = [
            (port["service_port"], port.get("target_port", 0), port.get("app_protocol", "")) for port in ports
        ]
        return found
    workload = tree["workload"]
    found = {field: workload.get(field) for field in WORKLOAD_FIELDS}
    found["services"] = {
        name: [(port["service_port"], port.get("target_port", 0)) for port in entry.get("ports", [])]
        for name, entry in (workload.get("services") or {}).items()
    }
    return found


# The file's Gateway without status would have none yet (D7); this Pod is in a Service by a slice.
NOT_COMPARED = {"NetworkGateway/net5/198.51.100.5/15008", "Kubernetes//Pod/svc-kinds/a3"}


def _modelled(uid: str) -> bool:
    return uid not in NOT_COMPARED and not any(part in uid for part in ("EndpointSlice", "/ServiceEntry/"))


@pytest.mark.parametrize("case", CASES)
def test_model_reads_as_istiod_did(case: str) -> None:
    """Services, endpoints, gateways: as recorded, in every field that the model has."""
    objects = [change.object for change in input_of(case) if change.object is not None]
    told = istiod(objects, DEFAULTS)
    expected = {}
    for name, tree in expected_of(case)["addresses"].items():
        tree.pop("version", None)
        if _modelled(name):
            expected[name] = _part(normalised(workload_pb2.Address, tree))
    found = {name: _part(address_json(record)) for name, record in told.items() if _modelled(name)}
    assert found == expected


@pytest.mark.parametrize("select", [True, False])
def test_flag_decides_whether_services_select_entries(select: bool) -> None:
    """Measured both ways: with the default an ordinary Service gains the entry, else ServiceEntries alone."""
    objects = [change.object for change in input_of("workload-entries") if change.object is not None]
    told = istiod(objects, Flags(services_select_entries=select))
    services = {name for name, record in told.items() if isinstance(record, Service)}
    kubernetes = {name for name in services if name.endswith(".svc.cluster.local")}
    members = {
        entry.service
        for record in told.values()
        if isinstance(record, Workload) and "WorkloadEntry" in record.uid
        for entry in record.services
    }
    assert bool(members & kubernetes) is select


def test_with_multi_network_remote_entries_vanish() -> None:
    """Measured: with AMBIENT_ENABLE_MULTI_NETWORK=true WorkloadEntries of other networks are not served."""
    objects = [change.object for change in input_of("networks") if change.object is not None]
    here = istiod(objects, Flags(services_select_entries=True))
    there = istiod(objects, Flags(services_select_entries=True, multi_network=True))
    lost = here.keys() - there.keys()
    assert lost
    assert all("/WorkloadEntry/" in name for name in lost)
