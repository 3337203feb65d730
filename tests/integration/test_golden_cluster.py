"""Recorded objects are made in a real API server as they once were: order, times, uids, status."""

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.support import golden_cluster
from tests.support.apiserver import ApiServer

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"
_POD_SPEC = {"nodeName": "node", "containers": [{"name": "c", "image": "c"}]}


def recorded(kind: str, name: str, created: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    """An object as `kubectl get -o yaml` showed it."""
    meta = {"name": name, "uid": f"0000-{kind}-{name}", "creationTimestamp": created}
    if kind != "Namespace":
        meta["namespace"] = "shop"
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def test_objects_are_made_oldest_first_with_new_uids(api_server: ApiServer, tmp_path: Path) -> None:
    """The file's order is another one; what was minutes apart is a second apart at least, twins are not."""
    endpoint = {
        "addresses": ["10.0.0.1"],
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "old", "uid": "0000-Pod-old"},
    }
    trees = [
        recorded("Pod", "young", LATE, spec=_POD_SPEC),
        recorded(
            "EndpointSlice",
            "web",
            EARLY,
            "discovery.k8s.io/v1",
            addressType="IPv4",
            endpoints=[endpoint],
            ports=[],
        ),
        recorded("Pod", "twin", EARLY, spec=_POD_SPEC),
        recorded("Pod", "old", EARLY, spec=_POD_SPEC, status={"podIP": "10.0.0.1", "phase": "Running"}),
        recorded("Namespace", "shop", EARLY),
    ]
    file = tmp_path / "input.yaml"
    file.write_text(yaml.safe_dump_all(trees))
    golden_cluster.load(api_server, file)

    found = {tree["metadata"]["name"]: api_server.admin.get(tree) for tree in trees if tree["kind"] == "Pod"}
    old, twin, young = (found[name] or {} for name in ("old", "twin", "young"))

    def made(tree: dict[str, Any]) -> datetime:
        return datetime.fromisoformat(tree["metadata"]["creationTimestamp"])

    assert made(old) == made(twin)
    assert (made(young) - made(old)).total_seconds() >= 1
    # A Pod that is created has the API server's own status: this one went through the subresource.
    assert old["status"]["podIP"] == "10.0.0.1"
    assert old["metadata"]["uid"] != "0000-Pod-old"
    (piece,) = api_server.admin.items("discovery.k8s.io/v1", "EndpointSlice", "shop")
    assert piece["endpoints"][0]["targetRef"]["uid"] == old["metadata"]["uid"]
