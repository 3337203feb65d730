"""The API server of the tests is a real one, and its helpers do what they say."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from peerd.model.kube.kinds import KINDS
from tests.support.apiserver import ApiFailure, ApiServer, MissingError, find
from tests.support.apiserver.binaries import Binaries

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "shop", "name": "web", "uid": "not-taken"},
    "spec": {
        "nodeName": "node",
        "serviceAccountName": "web",
        "containers": [{"name": "web", "image": "web"}],
    },
    "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
}
SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def test_an_object_is_created_with_its_status(api_server: ApiServer) -> None:
    """Defaults, uid and times are the server's, the status is ours."""
    api_server.admin.create(SHOP)
    api_server.admin.create(POD)
    found = api_server.admin.get(POD)
    assert found is not None
    assert found["status"]["podIP"] == "10.0.0.1"
    assert found["metadata"]["uid"] != "not-taken"
    assert found["spec"]["restartPolicy"] == "Always"


def test_the_next_test_finds_nothing_of_this_one(api_server: ApiServer) -> None:
    """`reset`, which the fixture calls, deletes Pods on nodes, Services with addresses, and namespaces."""
    before = [path for path, _ in api_server.admin.everything()]
    api_server.admin.create(SHOP)
    api_server.admin.create(POD)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"}}
    api_server.admin.create({**service, "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}})
    api_server.reset()
    assert [path for path, _ in api_server.admin.everything()] == before


def test_every_kind_that_peerd_reads_is_served(api_server: ApiServer) -> None:
    """CRDs included, in each version of the table that the CRD has."""
    for kind in KINDS:
        version = f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
        assert isinstance(api_server.admin.items(version, kind.name), list)


def test_an_account_has_no_rights_of_its_own_and_is_recorded(api_server: ApiServer) -> None:
    """RBAC is on; the recorder names user, verb, resource and the refusal."""
    mark = api_server.audit.mark()
    client = api_server.client(api_server.token("default", "nobody"))
    with pytest.raises(ApiFailure) as refusal:
        client.request("GET", "/api/v1/pods")
    client.close()
    assert refusal.value.status == 403
    (seen,) = api_server.audit.requests(since=mark)
    assert (seen.user, seen.verb, seen.resource) == ("system:serviceaccount:default:nobody", "list", "pods")
    assert seen.refused


def test_a_bound_token_names_its_pod(api_server: ApiServer) -> None:
    """What a ztunnel presents: a TokenReview of the API server knows account, Pod and audience."""
    api_server.admin.create(SHOP)
    pod = api_server.admin.create(POD)
    token = api_server.token("shop", "web", audiences=["istio-ca"], pod=pod)
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["istio-ca"]},
    }
    status = api_server.admin.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == "system:serviceaccount:shop:web"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


def test_it_comes_back_on_its_port_with_or_without_its_objects(
    new_api_server: Callable[..., ApiServer],
) -> None:
    """Killed and started; then with an etcd that was lost: empty, and with other uids."""
    server = new_api_server(with_crds=False)
    port = server.port
    made = server.admin.create(SHOP)
    server.kill()
    server.start()
    assert server.admin.get(SHOP) == made
    server.stop()
    server.forget_everything()
    server.start()
    assert server.port == port
    assert server.admin.get(SHOP) is None


def assets(directory: Path, binaries: Binaries) -> Path:
    """What envtest unpacks: `kube-apiserver` and `etcd` beside each other."""
    directory.mkdir()
    for name, command in (("etcd", binaries.etcd), ("kube-apiserver", binaries.kube_apiserver)):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        script.chmod(0o755)
    return directory


def test_binaries_of_envtest_are_taken_where_they_are_named(
    api_binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KUBEBUILDER_ASSETS comes before what was built; the server that they make has all that tests use."""
    directory = assets(tmp_path / "assets", api_binaries)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(directory))
    monkeypatch.setenv("PEERD_CRDS", str(api_binaries.crds))
    found = find()
    assert found.etcd == (str(directory / "etcd"),)
    assert found.kube_apiserver == (str(directory / "kube-apiserver"),)
    root = Path(tempfile.mkdtemp(prefix="apiserver-"))  # its sockets' paths must stay short
    server = ApiServer(root, found)
    try:
        server.start()
        server.admin.create(SHOP)
        assert server.admin.create(POD)["status"]["podIP"] == "10.0.0.1"
        assert server.admin.items("networking.istio.io/v1", "ServiceEntry") == []
    finally:
        server.stop()
        shutil.rmtree(root)


@pytest.mark.parametrize("missing", ["etcd", "kube-apiserver"])
def test_assets_that_lack_one_of_both_are_told(
    api_binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """By name, and nothing else is started in their place."""
    directory = assets(tmp_path / "assets", api_binaries)
    (directory / missing).unlink()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(directory))
    with pytest.raises(MissingError, match=f"{directory}/{missing} cannot be run"):
        find()


def test_assets_without_definitions_are_told(
    api_binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envtest has none of Istio and the Gateway API."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets(tmp_path / "assets", api_binaries)))
    monkeypatch.setenv("PEERD_CRDS", str(tmp_path / "none"))
    with pytest.raises(MissingError, match="name a directory with those of Istio"):
        find()
