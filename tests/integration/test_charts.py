"""The charts: every value does something, and a real API server takes every object they make."""

import json
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
import yaml

from peerd.cli.config import OPTIONS, resolve
from tests.support.helm import CHARTS, HelmError, helm, template
from tests.support.helm.made import by_name, dry_run

PEERD = yaml.safe_load((CHARTS / "peerd" / "values.yaml").read_text())
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
NEEDS = {
    "podMonitor.interval": {"podMonitor.create": True},
    "podMonitor.labels": {"podMonitor.create": True},
}


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


def arguments(objects):
    """Of the control plane's container, by field of ServeConfig."""
    deployment = next(each for each in objects if each["kind"] == "Deployment")
    command, *args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == "serve"
    given = (argument.removeprefix("--").split("=", 1) for argument in args)
    return {name.replace("-", "_"): value for name, value in given}


def test_charts_are_linted_strictly():
    """`helm lint --strict` finds nothing."""
    helm("lint", "--strict", *(str(CHARTS / name) for name in ("peerd", "peering")))


def test_every_value_of_the_chart_is_tried():
    """The table of other values names all values of the chart, and none that it has not."""
    assert set(OTHER) == set(leaves(PEERD))


@pytest.mark.parametrize("name", OTHER)
def test_a_value_changes_what_is_made(charts_cluster, name):
    """No value is dead, and the API server takes all objects with it, strictly."""
    base = NEEDS.get(name, {})
    before = template("peerd", with_values(base), namespace=SYSTEM)
    after = template("peerd", with_values(base | {name: OTHER[name]}), namespace=SYSTEM)
    assert before != after
    dry_run(charts_cluster, after)


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", "medium"), ("mode", "both"), ("gatewayClasses.create", True), ("image.pullPolicy", "Never")],
)
def test_the_api_server_takes_the_other_words_of_a_choice(charts_cluster, name, value):
    """What the table of other values leaves out of a choice."""
    dry_run(charts_cluster, template("peerd", with_values({name: value}), namespace=SYSTEM))


def _closed(schema, path=()):
    """Paths of all objects of a schema in which not everything may be written."""
    if schema.get("type") == "object" and schema.get("additionalProperties") is False:
        yield path
    for key, inner in schema.get("properties", {}).items():
        yield from _closed(inner, (*path, key))


@pytest.mark.parametrize(
    ("chart", "path"),
    [
        (chart, path)
        for chart in ("peerd", "peering")
        for path in _closed(json.loads((CHARTS / chart / "values.schema.json").read_text()))
    ],
)
def test_an_unknown_value_is_refused_wherever_it_is_written(chart, path):
    """At the top, and in every group of values that is not somebody else's object."""
    values: Any = {"unheardOf": True}
    for key in reversed(path):
        values = {key: values}
    with pytest.raises(HelmError, match="unheardOf"):
        template(chart, values, namespace=SYSTEM)


def test_only_other_peoples_objects_are_open():
    """Groups that take any key: annotations, labels, parts of Pods, MeshConfig; settings have a list."""
    schema = json.loads((CHARTS / "peerd" / "values.schema.json").read_text())
    closed = {".".join(path) for path in _closed(schema)}
    groups = {name for name, value in PEERD.items() if isinstance(value, dict)}
    assert groups - closed == {
        "affinity", "meshConfig", "nodeSelector", "podAnnotations", "podLabels", "resources", "settings"
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["standalone", "beside", "both"])
@pytest.mark.parametrize("revision", ["", "canary"])
def test_the_api_server_takes_the_control_plane(charts_cluster, mode, revision):
    """With every other value given at once, in each mode, objects pass strict validation."""
    values = with_values({**OTHER, "mode": mode, "revision": revision, "uninstall.hook": True, "replicas": 3})
    values["podDisruptionBudget"]["create"] = values["networkPolicy"]["create"] = True
    values["gatewayClasses"]["create"] = True
    dry_run(charts_cluster, template("peerd", values, namespace=SYSTEM))


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


def test_the_kustomize_base_is_what_the_chart_makes(charts_cluster):
    """It lists every file of its directory, is fresh, and the API server takes all of it."""
    base = CHARTS.parent / "base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(listed) == sorted(files), (
        "and no CRD, which would take its objects along when it is deleted"
    )
    done = subprocess.run(
        [sys.executable, base.parent / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    dry_run(
        charts_cluster,
        [each for name in files for each in yaml.safe_load_all((base / name).read_text())],
    )
