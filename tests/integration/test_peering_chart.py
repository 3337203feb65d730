"""The chart `peering`: gateways and links, with the commercial chart's values, taken by a real API server."""

import json
from typing import Any

import pytest
import yaml

from tests.support.helm import CHARTS, template
from tests.support.helm.made import by_name, dry_run

PEERING = yaml.safe_load((CHARTS / "peering" / "values.yaml").read_text())
SYSTEM = "istio-system"

# For every value another one than its default, and what is given with each of them.
EASTWEST = {"create": True, "cluster": "east", "network": "east-net"}
OTHER_EASTWEST: dict[str, Any] = {
    "name": "edge",
    "deployment": {"replicas": 5},
    "dataplaneServiceTypes": ["nodeport", "loadbalancer"],
    "service": {"metadata": {"annotations": {"a": "b"}}},
    "horizontalPodAutoscaler": {"spec": {"maxReplicas": 5}},
    "podDisruptionBudget": {"spec": {"maxUnavailable": "30%"}},
}
REMOTE = {"cluster": "west", "network": "west-net", "address": "203.0.113.7"}
OTHER_REMOTE: dict[str, dict[str, Any]] = {
    "name": {"name": "to-west"},
    "addressType": {"addressType": "Hostname", "address": "eastwest.example.com"},
    "preferredDataplaneServiceType": {"preferredDataplaneServiceType": "nodeport"},
    "nodeport": {"nodeport": 31512},
    "trustDomain": {"trustDomain": "west.local"},
    "region": {"region": "us-west1"},
    "zone": {"zone": "us-west1-a"},
    "serviceAccount": {"serviceAccount": "edge"},
}

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


def test_every_value_of_peering_is_tried():
    """The tables of other values name every value, and every field of a remote."""
    schema = json.loads((CHARTS / "peering" / "values.schema.json").read_text())["properties"]
    assert set(OTHER_EASTWEST) | set(EASTWEST) == set(schema["eastwest"]["properties"])
    fields = schema["remote"]["properties"]["items"]["items"]["properties"]
    assert set(OTHER_REMOTE) | set(REMOTE) == set(fields)
    for values, known in ((PEERING["eastwest"], schema["eastwest"]), (PEERING["remote"], schema["remote"])):
        assert set(values) == set(known["properties"])


@pytest.mark.parametrize("name", OTHER_EASTWEST)
def test_a_value_of_the_gateway_changes_what_is_made(charts_cluster, name):
    """No value is dead, and the API server takes all objects with it, strictly."""
    before = template("peering", {"eastwest": EASTWEST}, namespace=SYSTEM)
    after = template("peering", {"eastwest": EASTWEST | {name: OTHER_EASTWEST[name]}}, namespace=SYSTEM)
    assert before != after
    dry_run(charts_cluster, after)


@pytest.mark.parametrize("name", OTHER_REMOTE)
def test_a_field_of_a_remote_changes_what_is_made(charts_cluster, name):
    """No field is dead, and the API server takes the Gateway with it, strictly."""
    before, after = (
        template("peering", {"remote": {"create": True, "items": [item]}}, namespace=SYSTEM)
        for item in (REMOTE, REMOTE | OTHER_REMOTE[name])
    )
    assert before != after
    dry_run(charts_cluster, after)


def test_the_documented_values_of_gateways_and_peers_work(charts_cluster):
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
    dry_run(charts_cluster, made)


def test_nothing_is_made_of_the_default_values_of_peering():
    """A chart installed without values links nothing and opens nothing."""
    assert template("peering", PEERING, namespace=SYSTEM) == []
