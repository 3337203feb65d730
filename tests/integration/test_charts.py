"""The charts: every value does something, and a real API server takes every object they make."""

import json
import subprocess
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from peerd.cli.config import OPTIONS, resolve
from tests.support.apiserver import ApiServer
from tests.support.apiserver.crds import install
from tests.support.helm import CHARTS, HelmError, helm, template
from tests.support.helm.build import built

PEERD = yaml.safe_load((CHARTS / "peerd" / "values.yaml").read_text())
PEERING = yaml.safe_load((CHARTS / "peering" / "values.yaml").read_text())
SYSTEM = "istio-system"

# For every value of the chart peerd another one than its default.
OTHER: dict[str, Any] = {
    "clusterId": "east",
    "mode": "beside",
    "network": "east-net",
    "trustDomain": "east.local",
    "revision": "canary",
    "image.repository": "mirror/peerd",
    "image.tag": "1.2.3",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
    "replicas": 1,
    "size": "large",
    "resources": {"limits": {"memory": "5Gi"}},
    "meshConfig": {"trustDomain": "east.local", "discoverySelectors": [{"matchLabels": {"mesh": "on"}}]},
    "settings": {"log-level": "debug", "peering": False, "peer-trust-domains": ["a", "b"]},
    "gateways.create": False,
    "gateways.namespaces": ["istio-eastwest"],
    "gatewayClasses.create": False,
    "serviceAccount.annotations": {"a": "b"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "control-plane", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "",
    "podDisruptionBudget.create": False,
    "podDisruptionBudget.maxUnavailable": "50%",
    "networkPolicy.create": False,
    "podMonitor.create": True,
    "podMonitor.interval": "30s",
    "podMonitor.labels": {"release": "prometheus"},
    "uninstall.hook": False,
    "uninstall.purge": True,
}
NEEDS = {"podMonitor.interval": {"podMonitor.create": True}, "podMonitor.labels": {"podMonitor.create": True}}

# The documented values of the commercial chart of gateways and peers, every field given once.
DOCUMENTED = """
eastwest:
  create: true
  cluster: cluster1
  network: network1
  deployment:
    replicas: 3
    affinity:
      podAntiAffinity:
        preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm:
              topologyKey: kubernetes.io/hostname
              labelSelector: {matchLabels: {gateway.networking.k8s.io/gateway-name: istio-eastwest}}
  dataplaneServiceTypes: [nodeport]
  service:
    spec:
      type: NodePort
      ports:
        - {name: tls-hbone, port: 15008, nodePort: 31008}
        - {name: tls-xds, port: 15012, nodePort: 31012}
remote:
  create: true
  items:
    - name: istio-remote-peer-cluster2
      cluster: cluster2
      network: network2
      addressType: IPAddress
      address: 203.0.113.2
      preferredDataplaneServiceType: nodeport
      nodeport: 31012
      trustDomain: cluster2.local
      region: us-west1
      zone: us-west1-a
    - name: istio-remote-peer-cluster3
      cluster: cluster3
      network: network3
      addressType: Hostname
      address: eastwest.cluster3.example.com
      preferredDataplaneServiceType: loadbalancer
"""


@pytest.fixture(scope="module")
def cluster(api_binaries):
    """An API server that knows PodMonitors, with the namespaces that charts are installed in."""
    with tempfile.TemporaryDirectory(prefix="charts-") as root:
        server = ApiServer(Path(root), api_binaries)
        try:
            server.start()
            install(server.admin, [yaml.safe_load((built() / "pod-monitor.yaml").read_text())])
            for name in (SYSTEM, "istio-eastwest"):
                server.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            yield server.admin
        finally:
            server.stop()


def leaves(values, default_keys=()):
    """Dotted names of all values; a mapping that is empty by default is a value itself."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*default_keys, key))
        else:
            yield ".".join((*default_keys, key))


def with_values(changes):
    values = deepcopy(PEERD)
    for name, value in changes.items():
        *path, last = name.split(".")
        place = values
        for key in path:
            place = place[key]
        place[last] = value
    return values


def by_name(objects):
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def arguments(objects):
    """Of the control plane's container, by field of ServeConfig."""
    deployment = next(each for each in objects if each["kind"] == "Deployment")
    command, *args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "serve"
    given = (argument.removeprefix("--").split("=", 1) for argument in args)
    return {name.replace("-", "_"): value for name, value in given}


def dry_run(cluster, objects):
    """Every object is taken by the API server as it is: no unknown field, nothing missing."""
    for each in objects:
        path = cluster.path(each, collection=True)
        cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", each)


def test_charts_are_linted_strictly():
    """`helm lint --strict` finds nothing."""
    helm("lint", "--strict", *(str(CHARTS / name) for name in ("peerd", "peering")))


def test_every_value_of_the_chart_is_tried():
    """The table of other values names all values of the chart, and none that it has not."""
    assert set(OTHER) == set(leaves(PEERD))


@pytest.mark.parametrize("name", OTHER)
def test_a_value_changes_what_is_made(name):
    """No value is dead."""
    base = NEEDS.get(name, {})
    before = template("peerd", with_values(base), namespace=SYSTEM)
    after = template("peerd", with_values(base | {name: OTHER[name]}), namespace=SYSTEM)
    assert before != after


@pytest.mark.parametrize("mode", ["standalone", "beside"])
@pytest.mark.parametrize("revision", ["", "canary"])
def test_the_api_server_takes_the_control_plane(cluster, mode, revision):
    """With every other value given at once, in both modes, objects pass strict validation."""
    values = with_values({**OTHER, "mode": mode, "revision": revision, "uninstall.hook": True, "replicas": 3})
    values["podDisruptionBudget"]["create"] = values["networkPolicy"]["create"] = True
    values["gatewayClasses"]["create"] = True
    dry_run(cluster, template("peerd", values, namespace=SYSTEM))


def test_what_is_made_is_what_the_modes_are():
    """Standalone is found where tools look for istiod; beside it nothing has istiod's names (D35)."""
    alone = by_name(template("peerd", PEERD, namespace=SYSTEM))
    beside = by_name(template("peerd", with_values({"mode": "beside"}), namespace=SYSTEM))
    assert alone["Service", "istiod"]["spec"]["ports"][0]["port"] == 15012
    pod = alone["Deployment", "peerd"]["spec"]["template"]["metadata"]["labels"]
    assert pod["app"] == "istiod"
    assert ("GatewayClass", "istio-remote") in alone
    assert ("GatewayClass", "istio-remote") not in beside
    assert ("GatewayClass", "istio-eastwest") in beside
    assert ("ConfigMap", "istio") not in beside
    for each in beside.values():
        labels = each["metadata"]["labels"] | each.get("spec", {}).get("template", {}).get(
            "metadata", {}
        ).get("labels", {})
        assert labels.get("app") != "istiod"
        assert each["metadata"]["name"] != "istiod"


@pytest.mark.parametrize("name", ["mode", "clusterId", "network", "trustDomain", "revision", "settings"])
def test_the_control_plane_takes_its_arguments(name):
    """What the chart writes, `peerd serve` reads."""
    made = template("peerd", with_values({name: OTHER[name]}), namespace=SYSTEM)
    given = arguments(made)
    assert set(given) <= {option.field for option in OPTIONS}
    config = resolve(given, {}, None)
    assert config.source == "kube"
    expected = OTHER["settings"] if name == "settings" else {_option(name): OTHER[name]}
    for option, value in expected.items():
        found = getattr(config, option.replace("-", "_"))
        assert found == (tuple(value) if isinstance(value, list) else value)


def _option(value_name):
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in value_name)


def test_settings_are_the_options_that_have_no_value_of_their_own():
    """The schema lists them: a misspelt one is refused before anything is installed."""
    schema = json.loads((CHARTS / "peerd" / "values.schema.json").read_text())
    own = set(
        arguments(
            template(
                "peerd",
                with_values(
                    {n: OTHER[n] for n in ("network", "trustDomain", "revision", "gateways.namespaces")}
                ),
                namespace=SYSTEM,
            )
        )
    )
    known = {option.name for option in OPTIONS if option.field not in own}
    assert set(schema["properties"]["settings"]["propertyNames"]["enum"]) == known


@pytest.mark.parametrize(
    ("chart", "values", "said"),
    [
        ("peerd", {"mode": "besides"}, "mode"),
        ("peerd", {"clusterID": "east"}, "clusterID"),
        ("peerd", {"settings": {"log-lvl": "debug"}}, "log-lvl"),
        ("peerd", {"size": "huge"}, "size"),
        ("peering", {"eastwest": {"create": True, "cluster": "east"}}, "eastwest.network"),
        ("peering", {"remote": {"create": True, "items": [{"cluster": "west"}]}}, "network"),
        ("peering", {"remote": {"items": [{"nodePort": 1}]}}, "nodePort"),
    ],
)
def test_wrong_values_are_refused_by_name(chart, values, said):
    """A misspelt or missing value stops the installation, and helm names it."""
    with pytest.raises(HelmError, match=said):
        template(chart, values, namespace=SYSTEM)


def test_the_documented_values_of_gateways_and_peers_work(cluster):
    """The commercial chart's documented values give Gateways that the API server takes."""
    made = template("peering", yaml.safe_load(DOCUMENTED), namespace="istio-eastwest")
    objects = by_name(made)
    own = objects["Gateway", "istio-eastwest"]
    assert own["metadata"]["labels"]["topology.istio.io/network"] == "network1"
    assert own["metadata"]["annotations"] == {"peering.solo.io/data-plane-service-type": "nodeport"}
    parameters = objects["ConfigMap", own["spec"]["infrastructure"]["parametersRef"]["name"]]["data"]
    deployment = yaml.safe_load(parameters["deployment"])["spec"]
    assert deployment["replicas"] == 3
    assert "podAntiAffinity" in deployment["template"]["spec"]["affinity"]
    assert yaml.safe_load(parameters["service"])["spec"]["ports"][1]["nodePort"] == 31012
    west = objects["Gateway", "istio-remote-peer-cluster2"]
    assert west["metadata"]["annotations"] == {
        "gateway.istio.io/service-account": "istio-eastwest",
        "gateway.istio.io/trust-domain": "cluster2.local",
        "peering.solo.io/preferred-data-plane-service-type": "nodeport",
    }
    assert west["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-west1-a"
    assert {each["name"]: each["port"] for each in west["spec"]["listeners"]}["xds-tls"] == 31012
    third = objects["Gateway", "istio-remote-peer-cluster3"]
    assert third["spec"]["addresses"] == [{"type": "Hostname", "value": "eastwest.cluster3.example.com"}]
    dry_run(cluster, made)


def test_nothing_is_made_of_the_default_values_of_peering():
    """A chart installed without values links nothing and opens nothing."""
    assert template("peering", PEERING, namespace=SYSTEM) == []


def test_the_kustomize_base_is_what_the_chart_makes(cluster):
    """It lists every file of its directory, is fresh, and the API server takes all of it."""
    base = CHARTS.parent / "base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(listed) == sorted([*files, "../crds"])
    done = subprocess.run(
        [sys.executable, base.parent / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    dry_run(
        cluster,
        [each for name in files for each in yaml.safe_load_all((base / name).read_text())],
    )
