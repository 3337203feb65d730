"""Two clusters the OSS way, recorded: what istiod told east's ztunnels, and where peerd differs on purpose.

Only `*.svc.cluster.local` is compared: the names of `mesh.internal` are ours. Each difference is one entry of
DIFFERENCES or one line of `as_istiod_has_it`, with its reason; anything else must be equal.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from peerd.model.changes import ObjectChange
from peerd.model.workload import Workload
from tests.support import golden_cluster
from tests.support.apiserver import ApiServer
from tests.support.clusters import Cluster, remote_gateway
from tests.support.golden import address_json, changes
from tests.support.kube_read import read

GOLDEN = Path(__file__).with_name("golden_multi")
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected-east.json").read_bytes())["addresses"]
SPLIT = "west/SplitHorizonWorkload/istio-system/eastwest/198.51.100.20/"

# The recording counts every endpoint, peerd the ready ones (D27): one Pod of reviews is not.
CAPACITY = {"reviews": 2, "headless": 2}
# Lives in west only: east has neither Service nor Namespace.
ONLY_WEST = "only-west/ratings.only-west.svc.cluster.local"


@pytest.fixture(scope="module", params=["directory", "kubernetes"])
def east(request: pytest.FixtureRequest) -> Cluster:
    """East, linked to west; the Gateway's annotation allows takeover where east has no Service.

    The objects come from the files, or were made in two real API servers and read by the Kubernetes source.
    """
    if request.param == "directory":
        found = {name: changes((GOLDEN / f"{name}.yaml").read_bytes()) for name in ("east", "west")}
    else:
        servers = request.getfixturevalue("module_api_servers")
        found = {name: through(api, name) for name, api in zip(("east", "west"), servers, strict=True)}
    west = Cluster("west", found["west"])
    allowed = {"peering.peerd.io/allow-takeover": "true"}
    gateway = remote_gateway("west", "west", "198.51.100.20", annotations=allowed)
    east = Cluster("east", [*found["east"], gateway])
    east.pull("west", west)
    return east


def through(api: ApiServer, name: str) -> list[ObjectChange]:
    golden_cluster.load(api, GOLDEN / f"{name}.yaml")
    return asyncio.run(read(api))


def local_names(services: dict[str, Any]) -> dict[str, Any]:
    """Only names of `cluster.local`, their ports by number."""
    return {name: entry for name, entry in services.items() if name.endswith(".svc.cluster.local")}


def service_as_istiod_has_it(name: str) -> dict[str, Any]:
    expected = json.loads(json.dumps(EXPECTED[name]["service"]))
    # Only our network's VIPs: nobody here can reach another network's.
    own = [entry for entry in expected.get("addresses", ()) if entry["network"] == "east"]
    expected["addresses"] = own
    if "subject_alt_names" in expected:
        expected["subject_alt_names"].sort()  # istiod's order changes from run to run
    if name == ONLY_WEST:
        del expected["ip_families"]  # of west's addresses
    return expected


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if "service" in EXPECTED[name]))
def test_a_service_is_what_istiod_makes_of_it(east: Cluster, name: str) -> None:
    found = address_json(east.service(name))["service"]
    if name == ONLY_WEST:
        # istiod gives west's VIP only; a name without local Service has one of ours, of each family.
        assert [entry["network"] for entry in found["addresses"]] == ["east", "east"]
        found["addresses"] = []
    found.setdefault("addresses", [])
    assert found == service_as_istiod_has_it(name)


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith(SPLIT)))
def test_a_coalesced_remote_workload_has_istiods_shape(east: Cluster, name: str) -> None:
    key = name.removeprefix(SPLIT)
    service, namespace = key.partition("/")[2].split(".")[:2]
    (workload,) = [found for found in east.workloads_of(key) if found.network == "west"]
    assert workload.uid.startswith(f"autogen.west.{namespace}.{service}.")
    assert workload.name == workload.uid
    found = address_json(workload)["workload"]
    found["services"] = local_names(found["services"])
    # A locality of its own: istiod has none (D27).
    assert found.pop("locality") == {"region": "us", "zone": "us-1"}
    expected = json.loads(json.dumps(EXPECTED[name]["workload"]))
    expected["uid"] = expected["name"] = workload.uid
    expected["capacity"] = CAPACITY.get(service, expected["capacity"])
    assert found == expected


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("east//Pod/")))
def test_a_local_pod_is_unchanged_but_for_its_global_names(east: Cluster, name: str) -> None:
    found = address_json(east.addresses[name])["workload"]
    found["services"] = local_names(found["services"])
    assert found == EXPECTED[name]["workload"]


def test_the_gateway_workload_is_istiods_with_the_real_port(east: Cluster) -> None:
    expected = dict(EXPECTED["NetworkGateway/west/198.51.100.20/0"]["workload"])
    expected["uid"] = expected["name"] = "NetworkGateway/west/198.51.100.20/15008"
    assert address_json(east.addresses[expected["uid"]])["workload"] == expected


def test_nothing_is_told_that_istiod_does_not_tell_but_global_names(east: Cluster) -> None:
    remote = {record.uid for record in east.addresses.values() if isinstance(record, Workload)}
    assert len([uid for uid in remote if uid.startswith("autogen.")]) == len(
        [name for name in EXPECTED if name.startswith(SPLIT)]
    )
    others = {name for name in east.addresses if not name.startswith(("autogen.", "NetworkGateway/"))}
    assert {name for name in others if not name.endswith(".mesh.internal")} == {
        name for name in EXPECTED if not name.startswith(("NetworkGateway/", SPLIT))
    }


def test_unequal_ports_are_told_to_the_owner(east: Cluster) -> None:
    """istiod only logs them."""
    (message,) = east.told("Service/shop/ports")
    assert "cluster west says 80/TCP, 90/TCP" in message
