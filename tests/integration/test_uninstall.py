"""`peerd uninstall` on a real API server, under exactly the rights that the chart gives it."""

import asyncio
import contextlib
import sys
import time

import pytest
import yaml

from peerd.ca import authority
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.kubeapi.objects import KubeObjects
from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE
from peerd.publish.uninstall import StillThereError, Uninstall
from tests.support import rbac
from tests.support.cas import revocations
from tests.support.gateway_objects import a_gateway
from tests.support.helm import template
from tests.support.kube_cluster import KubeCluster

SYSTEM = "istio-system"
LABELS = {GENERATED_LABEL: GENERATED_VALUE}
KEPT = ("istio-ca-secret", "istio-ca-root-cert", "istio-ca-crl")
"""What an uninstall without --purge leaves, beside CRDs."""
OUTSIDE = {
    "hosts": ["api.example.com"],
    "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
    "resolution": "DNS",
}
_NOISE = ("managedFields", "resourceVersion", "generation")


def manifest(kind, version, name, namespace=SYSTEM, **fields):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata | fields.pop("metadata", {}), **fields}


def entry(name, **metadata):
    spec = {"hosts": [f"{name}.shop.mesh.internal"], "ports": [{"number": 80, "name": "http"}]}
    return manifest("ServiceEntry", "networking.istio.io/v1", name, "shop", metadata=metadata, spec=spec)


def deployment(name, replicas):
    labels = {"app.kubernetes.io/name": "peerd", "app.kubernetes.io/instance": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "peerd", "image": "peerd"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return manifest("Deployment", "apps/v1", name, metadata={"labels": labels}, spec=spec)


def everything(server):
    """All objects but Events, without what every write changes."""
    found = {}
    for path, tree in server.admin.everything():
        if tree.get("kind") == "Event" or "/events/" in path or "/leases/apiserver-" in path:
            continue
        tree["metadata"] = {key: value for key, value in tree["metadata"].items() if key not in _NOISE}
        found[path] = tree
    return found


def condition(kind, status="True"):
    return {
        "type": kind,
        "status": status,
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


@pytest.fixture
def cluster(api_server):
    """A cluster of a user's, before peerd came."""
    admin = api_server.admin
    for name in (SYSTEM, "shop"):
        admin.create(manifest("Namespace", "v1", name, ""))
    admin.apply(entry("theirs"), manager="kubectl")
    # Somebody copied one of ours by hand, label and all: it is theirs.
    admin.apply(entry("copied", labels=LABELS), manager="kubectl")
    ports = {"ports": [{"name": "http", "port": 80}]}
    admin.apply(manifest("Service", "v1", "cart", "shop", spec=ports), manager="kubectl")
    listener = {"name": "xds-tls", "port": 15012, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
    gateway = manifest(
        "Gateway",
        "gateway.networking.k8s.io/v1",
        "peer",
        spec={"gatewayClassName": "istio-remote", "listeners": [listener]},
    )
    admin.apply(gateway, manager="kubectl")
    remote = manifest("GatewayClass", "gateway.networking.k8s.io/v1", "istio-remote", "")
    admin.apply({**remote, "spec": {"controllerName": "istio.io/unmanaged-gateway"}}, manager="istiod")
    # What others called much as we call ours.
    admin.apply(lease("peerd-backup"), manager="backup")
    admin.apply(
        manifest("ConfigMap", "v1", "istio-ca-root-cert", "default", data={"a": "b"}), manager="istiod"
    )
    admin.apply(manifest("Secret", "v1", "istio-ca-secret", "shop", data={"a": "Yg=="}), manager="kubectl")
    theirs = [condition("Accepted"), condition("Programmed", "False")]
    admin.request(
        "PATCH",
        f"{admin.path(gateway)}/status?fieldManager=istiod&force=true",
        {**gateway, "spec": None, "status": {"conditions": theirs}},
        "application/apply-patch+yaml",
    )
    return api_server


def peerd_writes(server):
    """What peerd leaves in a cluster; with the CA's Secret and a root."""
    admin = server.admin
    for name in ("autogen.shop.cart", "autogen.shop.gone"):
        admin.apply(entry(name, labels=LABELS), manager=FIELD_MANAGER)
    endpoints = manifest("WorkloadEntry", "networking.istio.io/v1", "autogen.west.shop.cart.0a", "shop")
    endpoints["metadata"]["labels"] = LABELS
    admin.apply({**endpoints, "spec": {"network": "west-net", "weight": 2}}, manager=FIELD_MANAGER)
    for each in running("istio-eastwest"):
        each["metadata"]["labels"] = LABELS
        admin.apply(each, manager=FIELD_MANAGER)
    told = {"conditions": [condition("gloo.solo.io/PeerConnected")]}
    recorded = {"addresses": [{"host": "theirs.shop.mesh.internal", "value": "240.240.0.1"}]}
    for each, status in (
        (manifest("Gateway", "gateway.networking.k8s.io/v1", "peer"), told),
        (manifest("GatewayClass", "gateway.networking.k8s.io/v1", "istio-remote", ""), told),
        (manifest("Service", "v1", "cart", "shop"), told),
        (entry("theirs"), recorded),
        (entry("copied"), recorded),
    ):
        admin.request(
            "PATCH",
            f"{admin.path(each)}/status?fieldManager={FIELD_MANAGER}&force=true",
            {**each, "spec": None, "status": status},
            "application/apply-patch+yaml",
        )
    admin.apply(lease("peerd-canary"), manager=FIELD_MANAGER)


def running(name):
    """What a Gateway is run by, as far as an API server demands."""
    selector = {"selector": {"matchLabels": {"app": name}}}
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "envoy", "image": "envoy"}]},
    }
    target = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "maxReplicas": 2,
    }
    yield manifest("ServiceAccount", "v1", name)
    yield manifest("Service", "v1", name, spec={"ports": [{"port": 15008}]})
    yield manifest("Deployment", "apps/v1", name, spec=selector | {"template": pod})
    yield manifest("PodDisruptionBudget", "policy/v1", name, spec=selector | {"maxUnavailable": 1})
    yield manifest("HorizontalPodAutoscaler", "autoscaling/v2", name, spec=target)


def lease(name):
    return manifest("Lease", "coordination.k8s.io/v1", name, spec={"holderIdentity": "a"})


def peerd_keeps(server):
    """What goes only when it is asked for."""
    server.admin.apply(
        manifest("Secret", "v1", "istio-ca-secret", data={"ca-key.pem": "a2V5"}), manager=FIELD_MANAGER
    )
    for namespace in (SYSTEM, "shop"):
        for name in KEPT[1:]:
            found = manifest("ConfigMap", "v1", name, namespace, data={"root-cert.pem": "x"})
            server.admin.apply(found, manager=FIELD_MANAGER)


def hook_account(server, *, purge):
    """A kubeconfig with the rights of the chart's hook, and no more."""
    values = {"uninstall": {"purge": purge}}
    made = template("peerd", values, "--show-only", "templates/uninstall.yaml", namespace=SYSTEM)
    assert [each["kind"] for each in made] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"]
    for each in made[:3]:
        server.admin.create(each)
    token = server.token(SYSTEM, made[0]["metadata"]["name"])
    arguments = made[3]["spec"]["template"]["spec"]["containers"][0]["args"]
    return made[:3], server.kubeconfig(token, name="uninstall"), arguments


async def peerd_uninstall(kubeconfig, arguments, extra=()):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peerd.cli.main", *arguments, f"--kubeconfig={kubeconfig}", *extra,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("purge", [False, True])
async def test_an_uninstall_leaves_the_cluster_as_it_was(cluster, purge):
    """Everything but Events is as before; CA and roots stay unless purged; no right is missing."""
    before = everything(cluster)
    peerd_keeps(cluster)
    kept = everything(cluster)
    assert len(kept) == len(before) + 5, "a Secret, two ConfigMaps in each of two namespaces"
    peerd_writes(cluster)
    hook, kubeconfig, arguments = hook_account(cluster, purge=purge)
    mark = cluster.audit.mark()
    code, said = await peerd_uninstall(kubeconfig, arguments)
    assert code == 0, said
    assert "deleted ServiceEntry/shop/autogen.shop.gone" in said
    assert "cleared Gateway/istio-system/peer (status)" in said
    assert "cleared ServiceEntry/shop/theirs (status)" in said
    user = f"system:serviceaccount:{SYSTEM}:{hook[0]['metadata']['name']}"
    requests = cluster.audit.requests(user, since=mark)
    assert rbac.refused(requests) == []
    # Pods and their control plane are another test's.
    stopping = {"pods", "deployments/scale"}
    grants = [each for each in rbac.grants_of(hook) if each.resource not in stopping]
    assert [str(each) for each in rbac.unused(grants, requests)] == []
    for each in hook:
        cluster.admin.delete(each)
    assert everything(cluster) == (before if purge else kept)
    again, said = await peerd_uninstall(cluster.kubeconfig(), arguments)
    assert (again, said) == (0, ""), "a second time there is nothing left to do"


def _kept(tree):
    return tree["metadata"]["name"] in KEPT


async def test_the_control_plane_is_stopped_first(cluster):
    """While its Pods run nothing is taken back: they would write it again."""
    peerd_writes(cluster)
    cluster.admin.create(deployment("peerd", 2))
    labels = {"app.kubernetes.io/name": "peerd", "app.kubernetes.io/instance": "peerd"}
    containers = {"containers": [{"name": "peerd", "image": "peerd"}]}
    pod = cluster.admin.create(manifest("Pod", "v1", "peerd-1", metadata={"labels": labels}, spec=containers))
    _, kubeconfig, arguments = hook_account(cluster, purge=False)
    code, said = await peerd_uninstall(kubeconfig, arguments, ["--patience=1"])
    assert code == 2
    assert "Pods of Deployment/istio-system/peerd still run" in said
    assert cluster.admin.get(entry("autogen.shop.cart")) is not None
    assert cluster.admin.get(deployment("peerd", 0))["spec"]["replicas"] == 0
    cluster.admin.delete(pod)
    code, said = await peerd_uninstall(kubeconfig, arguments)
    assert code == 0, said
    assert cluster.admin.get(entry("autogen.shop.cart")) is None


async def test_another_peerd_of_the_cluster_keeps_what_is_generated(cluster):
    """A revision that is uninstalled beside one that serves takes nothing away from it."""
    peerd_writes(cluster)
    cluster.admin.create(deployment("peerd", 1))
    cluster.admin.create(deployment("peerd-canary", 1))
    _, kubeconfig, _ = hook_account(cluster, purge=False)
    credentials = Credentials(str(kubeconfig))
    await credentials.load()
    transport = HttpTransport(credentials)
    said = []
    with pytest.raises(StillThereError, match="Deployment/istio-system/peerd is another peerd"):
        await Uninstall(KubeObjects(transport), SYSTEM, said.append).run(
            "peerd-canary", purge=False, patience=1
        )
    await transport.close()
    assert said == []
    assert cluster.admin.get(entry("autogen.shop.cart")) is not None


async def test_who_is_not_allowed_is_told_what(cluster):
    """A missing right is one line that names it, and exit code 2."""
    cluster.admin.create(manifest("ServiceAccount", "v1", "nobody"))
    kubeconfig = cluster.kubeconfig(cluster.token(SYSTEM, "nobody"), name="nobody")
    code, said = await peerd_uninstall(kubeconfig, ["uninstall"])
    assert code == 2
    assert said.count("\n") == 1
    assert "serviceentries" in said


def test_the_hook_runs_the_command_as_it_is():
    """The Job's arguments are options that the command has."""
    made = template("peerd", {"uninstall": {"purge": True}}, namespace=SYSTEM)
    job = next(yaml.safe_load(yaml.safe_dump(each)) for each in made if each["kind"] == "Job")
    from peerd.cli.uninstall import uninstall

    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    context = uninstall.make_context("uninstall", arguments[1:])
    assert context.params["deployment"] == "peerd"
    assert context.params["purge"] is True


@pytest.fixture
async def clusters(two_api_servers, tmp_path):
    """Two linked clusters with a global service in each, not started."""
    root = authority.make_root("mesh", time.time())
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number, (name, api) in enumerate(zip(("east", "west"), two_api_servers, strict=True), start=1):
            flags = ("--gateway-image=peerd:test",)
            files = {"ca-crl.pem": revocations(root)}
            cluster = KubeCluster(name, api, tmp_path / name, root, flags=flags, ca_files=files)
            stack.push_async_callback(cluster.close)
            await cluster.prepare()
            cluster.service(f"{name}-only", f"7.{number}", 1, labels={"solo.io/service-scope": "global"})
            made.append(cluster)
        for each, other in (made, reversed(made)):
            each.link(other)
        yield made


@pytest.mark.parametrize("purge", [False, True])
async def test_after_real_clusters_were_linked_everything_is_as_before(clusters, purge):
    """All that two peerds wrote of every kind, one uninstall takes back; the roots only if purged."""
    east, west = clusters
    admin = east.api.admin
    admin.create(manifest("ServiceEntry", "networking.istio.io/v1", "outside", "shop", spec=OUTSIDE))
    admin.create(a_gateway("istio-eastwest"))
    before = everything(east.api)
    for each in clusters:
        await each.start(f"{each.name}-0")

    def written():
        """What is there now and was not, by kind; of what was there already, what is said of it."""
        now = everything(east.api)
        made = {tree["metadata"]["name"] for path, tree in now.items() if path not in before}
        said = {tree["metadata"]["name"] for path, tree in now.items() if before.get(path, tree) != tree}
        gateway = admin.get(east.gateway(west)).get("status") or {}
        linked = [each["type"] for each in gateway.get("conditions", ()) if each["status"] == "True"]
        assert made >= {
            "autogen.shop.west-only",
            "istio-eastwest",
            "istio-ca-root-cert",
            "istio-ca-crl",
            "peerd",
        }
        assert said >= {"outside", "peer-west", "istio-eastwest", "east-only"}
        assert "gloo.solo.io/PeeringSucceeded" in linked
        return True

    await east.until(written, 30, "east has written something of every kind")
    for replica in east.replicas.values():
        await replica.stop()
    code, said = await peerd_uninstall(east.api.kubeconfig(), ["uninstall"], ["--purge"] if purge else [])
    assert code == 0, said
    after = everything(east.api)
    kept = {path for path, tree in after.items() if _kept(tree)}
    names = {tree["metadata"]["name"] for path, tree in after.items() if path in kept}
    assert names == (set() if purge else {*KEPT[1:]})
    assert {path: tree for path, tree in after.items() if path not in kept} == before
