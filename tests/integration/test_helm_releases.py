"""The charts as helm keeps them: installed, changed, rolled back and deleted on a real API server.

There are no controllers: the Job of an uninstall is test_uninstall.py's story, here its hook is left out.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_charts import OTHER, with_values
from tests.support.apiserver import ApiServer
from tests.support.apiserver.client import Client
from tests.support.helm import CHARTS, HelmError, helm, template
from tests.support.helm.made import dry_run

SYSTEM = "istio-system"
GATEWAY = Path(__file__).parents[1] / "unit" / "publish" / "gateway_workloads" / "defaults.yaml"
THEIR_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "istio-remote"},
    "spec": {"controllerName": "istio.io/unmanaged-gateway"},
}


class Releases:
    """helm, with a home and a cluster of its own."""

    def __init__(self, api: ApiServer, home: Path) -> None:
        self._home = home
        self._flags = ("--kubeconfig", str(api.kubeconfig()))

    def run(self, *arguments: str, values: dict[str, Any] | None = None, namespace: str = SYSTEM) -> str:
        """Run it in a namespace; *values* are given as a file."""
        given = () if values is None else ("--values", "-")
        command = (*arguments, *given, "--namespace", namespace, *self._flags)
        return helm(*command, stdin=yaml.safe_dump(values), home=self._home)

    def upgrade(self, values: dict[str, Any], *flags: str) -> None:
        """Change the release `peerd`."""
        self.run("upgrade", "peerd", str(CHARTS / "peerd"), *flags, values=values)


@pytest.fixture
def releases(api_server: ApiServer, tmp_path: Path) -> Releases:
    """Nothing is installed yet."""
    api_server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    return Releases(api_server, tmp_path)


def _objects(api: ApiServer) -> dict[str, Any]:
    """What lies there, without helm's own records and what the API server writes by itself."""
    found = {}
    passing = ("/secrets/sh.helm.release", "/leases/", "/ipaddresses/", "/events/")
    for path, tree in api.admin.everything():
        meta = {key: value for key, value in tree["metadata"].items() if key in {"labels", "annotations"}}
        if not any(part in path for part in passing):
            found[path] = (meta, tree.get("spec"), tree.get("data"), tree.get("rules"))
    return found


def _arguments(api: ApiServer, name: str = "peerd") -> list[str]:
    where = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": SYSTEM}}
    found = api.admin.get(where)
    assert found is not None
    arguments: list[str] = found["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def test_a_release_goes_through_all_modes_and_leaves_nothing(
    api_server: ApiServer, releases: Releases
) -> None:
    """Changed with each way to keep values, under a revision, rolled back: all is taken, and goes."""
    before = _objects(api_server)
    releases.run("install", "peerd", str(CHARTS / "peerd"), values={"clusterId": "east", "size": "medium"})
    first, said = _objects(api_server).keys(), _arguments(api_server)
    releases.upgrade({"mode": "both"}, "--reuse-values")
    releases.upgrade({"mode": "beside", "replicas": 1}, "--reset-then-reuse-values")
    assert {"--mode=beside", "--cluster-id=east"} <= set(_arguments(api_server)), "what was given counts"
    releases.upgrade({"revision": "canary", "mode": "standalone"}, "--reuse-values")
    assert "--revision=canary" in _arguments(api_server, "peerd-canary")
    releases.run("rollback", "peerd", "1")
    assert _objects(api_server).keys() == first
    assert _arguments(api_server) == said
    releases.run("uninstall", "peerd", "--no-hooks")
    assert _objects(api_server) == before


def test_an_istiods_class_is_neither_taken_nor_deleted(api_server: ApiServer, releases: Releases) -> None:
    """Its GatewayClass was there first: it is the same through installation, change and deletion."""
    theirs = api_server.admin.create(THEIR_CLASS)
    releases.run("install", "peerd", str(CHARTS / "peerd"), values={"clusterId": "east"})
    releases.upgrade({"size": "large"}, "--reuse-values")
    releases.run("uninstall", "peerd", "--no-hooks")
    found = api_server.admin.get(THEIR_CLASS)
    assert found is not None
    assert found["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert "labels" not in found["metadata"]


@pytest.mark.parametrize(
    ("namespace", "values", "named"),
    [
        (SYSTEM, {"revision": "two"}, 'ServiceAccount "peerd"'),
        ("second", {}, 'GatewayClass "istio-eastwest"'),
    ],
)
def test_a_second_release_is_refused_by_name(
    api_server: ApiServer, releases: Releases, namespace: str, values: dict[str, Any], named: str
) -> None:
    """A cluster has one; helm names what is somebody else's, and changes nothing."""
    releases.run("install", "peerd", str(CHARTS / "peerd"), values={"clusterId": "east"})
    if namespace != SYSTEM:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        api_server.admin.create(space)
    before = _objects(api_server)
    with pytest.raises(HelmError, match=named):
        releases.run("install", "other", str(CHARTS / "peerd"), values=values, namespace=namespace)
    assert _objects(api_server) == before


@pytest.mark.parametrize("seed", range(8))
def test_values_may_be_combined(charts_cluster: Client, seed: int) -> None:
    """Drawn from the table of other values: nothing is made twice, and the API server takes all of it."""
    drawn = random.Random(seed)
    changes = {name: value for name, value in OTHER.items() if drawn.random() < 0.5}
    changes["mode"] = drawn.choice(["standalone", "beside", "both"])
    made = template("peerd", with_values(changes), namespace=SYSTEM)
    named = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in made]
    assert len(set(named)) == len(named)
    dry_run(charts_cluster, made)


@pytest.mark.parametrize("mode", ["standalone", "beside", "both"])
def test_every_pod_may_run_where_pods_are_restricted(api_server: ApiServer, mode: str) -> None:
    """The control plane's, the uninstall Job's and the gateways': the strictest standard admits them."""
    tight = {"pod-security.kubernetes.io/enforce": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tight", "labels": tight}}
    api_server.admin.create(space)
    made = [*template("peerd", with_values({"mode": mode}), namespace=SYSTEM), *_gateway()]
    kinds = set()
    for each in made:
        if each["kind"] in {"Deployment", "Job"}:
            inner = each["spec"]["template"]
            kinds.add(each["metadata"]["name"])
            meta = {**inner["metadata"], "name": "pod", "namespace": "tight"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": inner["spec"]}
            api_server.admin.request("POST", "/api/v1/namespaces/tight/pods?dryRun=All", pod)
    assert kinds == {"peerd", "peerd-uninstall", "istio-eastwest"}


def _gateway() -> list[dict[str, Any]]:
    return [tree for tree in yaml.safe_load_all(GATEWAY.read_text()) if tree]
