"""The table of waypoints in docs/global-services.md, row by row, asked of the model of ztunnel (D30)."""

import re
from itertools import product
from pathlib import Path

import pytest

from tests.support.clusters import Cluster, pod, put, remote_gateway, service, system
from tests.support.paths import answers, words
from tests.support.ztunnel_choice import Client

PAGE = Path(__file__).parents[2] / "docs" / "global-services.md"
_ROW = re.compile(r"\| (none|local|remote|both) \| (yes|no) \| `([^`]+)` \|")
TABLE = {(row[1], row[2]): row[3] for row in _ROW.finditer(PAGE.read_text("utf-8"))}


def cluster(name: str, waypoint: str, *, endpoints: bool) -> Cluster:
    """A cluster with the global Service, behind *waypoint* if any."""
    labels = {"solo.io/service-scope": "global"}
    number = 1 if name == "east" else 2
    objects = [system(name)]
    if waypoint:
        labels["istio.io/use-waypoint"] = waypoint
        addresses = [{"type": "Hostname", "value": f"{waypoint}.shop.svc.cluster.local"}]
        listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
        gateway = {
            "metadata": {"name": waypoint, "namespace": "shop"},
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": listeners},
            "status": {"addresses": addresses},
        }
        objects += [
            put("Gateway", gateway),
            service(waypoint, ports=(15008,)),
            pod(waypoint, waypoint, f"10.{number}.0.9"),
        ]
    if endpoints:
        objects.append(pod("reviews", "reviews", f"10.{number}.0.1"))
    return Cluster(name, [*objects, service("reviews", labels)])


def test_the_table_is_whole() -> None:
    assert TABLE.keys() == set(product(("none", "local", "remote", "both"), ("yes", "no")))


@pytest.mark.parametrize(("waypoint", "endpoints"), sorted(TABLE))
def test_a_row_of_the_table_holds(waypoint: str, endpoints: str) -> None:
    east = cluster("east", "wp" if waypoint in {"local", "both"} else "", endpoints=endpoints == "yes")
    west = cluster("west", "gate" if waypoint in {"remote", "both"} else "", endpoints=True)
    east.apply([remote_gateway("west", "west", "198.51.100.20")])
    east.pull("west", west)
    client = Client("east", "client", "east")
    found = answers({"east": east, "west": west}, client, "reviews.shop.mesh.internal", 80)
    assert words(found) == TABLE[waypoint, endpoints]
