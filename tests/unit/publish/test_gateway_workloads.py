"""A Gateway becomes the objects that run it: held against golden files, parameter by parameter."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from peerd.kubeapi.resources import DISRUPTION_BUDGET
from peerd.limits import GATEWAY_TRUST_BYTES, hits
from peerd.model.kube.gateway import Gateway
from peerd.publish.gateway_workloads import (
    AUTOSCALER,
    DEPLOYMENT,
    RESOURCES,
    SERVICE,
    Installation,
    ParameterError,
    merge,
    workloads,
)
from peerd.publish.own_gateway_status import OwnFacts, own_status, service_addresses

GOLDEN = Path(__file__).parent / "gateway_workloads"
HOME = Installation(
    image="peerd:test",
    envoy_image="envoy:test",
    host="istiod.istio-system.svc",
    ca_host="istiod.istio-system.svc",
    cluster_id="east",
    trust_domain="cluster.local",
    system_namespace="istio-system",
)


def gateway(
    name: str = "istio-eastwest", infrastructure: dict[str, Any] | None = None, **meta: Any
) -> Gateway:
    """A Gateway as the chart makes it."""
    tree = {
        "metadata": {
            "name": name,
            "namespace": "istio-system",
            "uid": "6a0e5c1c-0000-4000-8000-000000000001",
            "labels": {"istio.io/expose-istiod": "15012", "topology.istio.io/network": "east-net"},
            **meta,
        },
        "spec": {
            "gatewayClassName": "istio-eastwest",
            "listeners": [{"name": "cross-network", "port": 15008, "protocol": "HBONE"}],
            **({"infrastructure": infrastructure} if infrastructure else {}),
        },
    }
    return msgspec.convert(tree, Gateway)


CASES = {
    "defaults": (gateway(), {}),
    "nodeport": (gateway(annotations={"peering.solo.io/data-plane-service-type": "nodeport"}), {}),
    "parameters": (
        gateway(),
        {
            "deployment": {
                "metadata": {"labels": {"team": "network"}},
                "spec": {
                    "template": {
                        "spec": {
                            "nodeSelector": {"pool": "edge"},
                            "containers": [{"name": "envoy", "resources": {"limits": {"memory": "4Gi"}}}],
                        }
                    }
                },
            },
            "service": {"spec": {"type": "ClusterIP"}},
            "podDisruptionBudget": {"spec": {"maxUnavailable": 0}},
            "horizontalPodAutoscaler": {"spec": {"minReplicas": 3, "maxReplicas": 9}},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_its_objects_are_as_reviewed(name):
    """Write the file anew by hand from the difference, and look at it."""
    found = workloads(*CASES[name], HOME)
    trees = [{"kind": ref.resource.kind, **tree} for ref, tree in found.items()]
    expected = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text("utf-8")))
    assert trees == expected


def test_two_gateways_share_nothing():
    """Neither a name nor a Pod."""
    one, two = workloads(gateway(), {}, HOME), workloads(gateway("other"), {}, HOME)
    assert not one.keys() & two.keys()
    selectors = [
        tree["spec"]["selector"]["matchLabels"]
        for found in (one, two)
        for ref, tree in found.items()
        if ref.resource is DEPLOYMENT
    ]
    assert selectors[0] != selectors[1]


def test_the_account_is_the_annotations():
    """The certificate names it, and so do peers."""
    found = workloads(gateway(annotations={"gateway.istio.io/service-account": "edge"}), {}, HOME)
    names = {ref.resource.kind: ref.name for ref in found}
    assert (names["ServiceAccount"], names["Deployment"]) == ("edge", "istio-eastwest")


def test_a_scaled_deployment_says_nothing_of_replicas():
    """Its HorizontalPodAutoscaler does; without one there are two."""
    found = workloads(gateway(), {"horizontalPodAutoscaler": {"spec": {"maxReplicas": 3}}}, HOME)
    deployment = next(tree for ref, tree in found.items() if ref.resource is DEPLOYMENT)
    assert "replicas" not in deployment["spec"]
    assert AUTOSCALER in {ref.resource for ref in found}
    assert AUTOSCALER not in {ref.resource for ref in workloads(gateway(), {}, HOME)}


def test_no_port_without_its_label():
    """15012 is exposed by the label alone (D37)."""
    found = workloads(gateway(labels={}), {}, HOME)
    ports = next(tree for ref, tree in found.items() if ref.resource is SERVICE)["spec"]["ports"]
    assert [port["name"] for port in ports] == ["hbone", "status"]


def test_whose_it_is_cannot_be_taken_away():
    """Labels, owner and name hold against parameters."""
    parameters = {
        resource: {"metadata": {"name": "x", "namespace": "y", "labels": {"peerd.io/generated": "no"}}}
        for resource in ("deployment", "service")
    }
    for ref, tree in workloads(gateway(), parameters, HOME).items():
        meta = tree["metadata"]
        assert (meta["name"], meta["namespace"]) == (ref.name, ref.namespace)
        assert meta["labels"]["peerd.io/generated"] == "true"
        assert meta["ownerReferences"][0]["uid"] == "6a0e5c1c-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"deploment": {}}, "deploment: is unknown; write one of deployment, service"),
        ({"service": "NodePort"}, "service: is 'NodePort'; write the object's fields, as YAML"),
    ],
)
def test_parameters_that_cannot_be_used_are_told(parameters, told):
    """Key and fix; nothing is made of them."""
    with pytest.raises(ParameterError) as error:
        workloads(gateway(), parameters, HOME)
    assert str(error.value).startswith(told)


def test_merging_keeps_what_is_not_said():
    """Maps by key, lists of named things by name, all else replaced."""
    base = {"a": {"b": 1, "c": 2}, "l": [{"name": "x", "v": 1}, {"name": "y"}], "p": [1, 2]}
    over = {"a": {"c": 3}, "l": [{"name": "x", "w": 2}, {"name": "z"}], "p": [3]}
    assert merge(base, over) == {
        "a": {"b": 1, "c": 3},
        "l": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}, {"name": "z"}],
        "p": [3],
    }


def test_objects_are_written_in_order():
    """An account before its Pods."""
    made = [ref.resource for ref in workloads(*CASES["parameters"], HOME)]
    assert made == list(RESOURCES)


@pytest.mark.parametrize(
    ("service", "addresses"),
    [
        (
            {
                "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example"}]}},
            },
            (("IPAddress", "203.0.113.7"), ("Hostname", "lb.example")),
        ),
        ({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}, "status": {}}, ()),
        (
            {"spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.1", "fd00::1"]}},
            (("IPAddress", "10.0.0.1"), ("IPAddress", "fd00::1")),
        ),
        ({"spec": {"type": "ClusterIP", "clusterIPs": ["None"]}}, ()),
    ],
)
def test_addresses_are_the_services(service, addresses):
    """A load balancer's are its own, and nobody else's stand in for them."""
    assert service_addresses(service) == addresses


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (OwnFacts((("IPAddress", "203.0.113.7"),)), [("Accepted", "True"), ("Programmed", "True")]),
        (OwnFacts(), [("Accepted", "True"), ("Programmed", "False")]),
        (OwnFacts(problem="because"), [("Accepted", "False"), ("Programmed", "False")]),
    ],
)
def test_its_status_says_how_far_it_is(facts, expected):
    """Accepted while it can be run, Programmed when it can be reached (D33)."""
    status = own_status(gateway(), facts)
    assert [(each["type"], each["status"]) for each in status["conditions"]] == expected
    assert status.get("addresses", []) == [{"type": kind, "value": value} for kind, value in facts.addresses]


def variables(other_roots):
    """The environment of both containers that run `peerd gateway`."""
    made = workloads(gateway(), {}, HOME, other_roots)
    (deployment,) = [tree for ref, tree in made.items() if ref.resource is DEPLOYMENT]
    pod = deployment["spec"]["template"]["spec"]
    both = [pod["initContainers"][0], *(each for each in pod["containers"] if each["name"] == "companion")]
    return [{each["name"]: each.get("value") for each in found["env"]} for found in both]


def test_roots_of_other_trust_domains_are_in_the_deployment():
    """Our own are not among them: those are in the ConfigMap, and follow without a restart."""
    for found in variables({"b.example": b"PEM b", "a.example": b"PEM a", "cluster.local": b"PEM"}):
        assert json.loads(found["PEERD_GATEWAY_TRUST_JSON"]) == {"a.example": "PEM a", "b.example": "PEM b"}
    for found in variables({"cluster.local": b"PEM"}):
        assert "PEERD_GATEWAY_TRUST_JSON" not in found


def test_too_many_roots_are_told_and_change_nothing():
    """GATEWAY_TRUST_BYTES: a Pod with more could not be started."""
    before = hits(GATEWAY_TRUST_BYTES)
    with pytest.raises(ParameterError, match="100000 can be handed to a gateway; take out roots"):
        workloads(gateway(), {}, HOME, {"a.example": b"x" * 100_001})
    assert hits(GATEWAY_TRUST_BYTES) == before + 1


def test_all_that_is_made_carries_what_the_infrastructure_says():
    """Pods too: a cloud reads its load balancer's annotations from the Service. What selects Pods holds."""
    wanted = {
        "labels": {"team": "network", "gateway.networking.k8s.io/gateway-name": "other"},
        "annotations": {"cloud.example/internal": "true", "prometheus.io/scrape": "false"},
    }
    made = workloads(gateway(infrastructure=wanted), CASES["parameters"][1], HOME)
    metas = {ref.resource.kind: tree["metadata"] for ref, tree in made.items()}
    (deployment,) = [tree for ref, tree in made.items() if ref.resource is DEPLOYMENT]
    metas["Pod"] = deployment["spec"]["template"]["metadata"]
    assert len(metas) == 6
    for kind, meta in metas.items():
        assert meta["labels"]["team"] == "network", kind
        assert meta["labels"]["gateway.networking.k8s.io/gateway-name"] == "istio-eastwest", kind
        assert meta["annotations"]["cloud.example/internal"] == "true", kind
    assert metas["Pod"]["annotations"]["prometheus.io/scrape"] == "false"
    assert metas["Pod"]["labels"]["istio.io/dataplane-mode"] == "none"


def test_parameters_count_before_the_infrastructure():
    """They are the narrower word."""
    wanted = gateway(infrastructure={"annotations": {"a": "1", "b": "1"}})
    made = workloads(wanted, {"service": {"metadata": {"annotations": {"a": "2"}}}}, HOME)
    (service,) = [tree for ref, tree in made.items() if ref.resource is SERVICE]
    assert service["metadata"]["annotations"] == {"a": "2", "b": "1"}


@pytest.mark.parametrize("name", ["a.b", "x" * 64, "9to5", "ends-"])
def test_a_name_that_no_service_may_have_is_told(name):
    """An API server takes Gateways of up to 253 letters, dots among them."""
    with pytest.raises(ParameterError, match=r"^metadata\.name: .* can be no Service's; take up to 63"):
        workloads(gateway(name), {}, HOME)


@pytest.mark.parametrize("account", ["Edge", "../peerd", "a/b", "x" * 254, "spiffe://x"])
def test_an_account_that_can_be_none_is_told(account):
    """Its annotation is free text."""
    with pytest.raises(ParameterError, match="can be no account's name"):
        workloads(gateway(annotations={"gateway.istio.io/service-account": account}), {}, HOME)


def test_a_budget_has_one_bound():
    """The API server takes no second one."""
    made = workloads(gateway(), {"podDisruptionBudget": {"spec": {"minAvailable": 1}}}, HOME)
    (budget,) = [tree for ref, tree in made.items() if ref.resource is DISRUPTION_BUDGET]
    assert budget["spec"].keys() == {"minAvailable", "selector"}


def test_a_gateway_that_is_not_run_as_it_says_keeps_its_addresses():
    """Peers are told them from its status; without any, nothing is said of addresses."""
    status = own_status(gateway(), OwnFacts((("IPAddress", "203.0.113.7"),), problem="because"))
    assert status["addresses"] == [{"type": "IPAddress", "value": "203.0.113.7"}]
    assert "addresses" not in own_status(gateway(), OwnFacts(problem="because"))
