"""What runs gateways on a real API server, looked at with an administrator's eyes."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.kube_cluster import KubeCluster

SYSTEM = "istio-system"
Tree = dict[str, Any]
_VERSIONS = {
    "ServiceAccount": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
}
KINDS = set(_VERSIONS)
PATIENCE = 60.0


def a_gateway(name: str, *, parameters: str = "") -> Tree:
    """A Gateway of our class, as the chart makes it."""
    spec: Tree = {
        "gatewayClassName": "istio-eastwest",
        "listeners": [
            {"name": "cross-network", "port": 15008, "protocol": "HBONE", "tls": {"mode": "Passthrough"}}
        ],
    }
    if parameters:
        spec["infrastructure"] = {"parametersRef": {"group": "", "kind": "ConfigMap", "name": parameters}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": name,
            "namespace": SYSTEM,
            "labels": {"istio.io/expose-istiod": "15012", "topology.istio.io/network": "east-net"},
        },
        "spec": spec,
    }


class GatewayStory:
    """One cluster's gateways."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._cluster = cluster
        self._admin = cluster.api.admin

    async def made(self, gateway: Tree, parameters: Mapping[str, str] | None = None) -> None:
        """Create a Gateway, with its ConfigMap, and wait for all that runs it."""
        name = gateway["metadata"]["name"]
        if parameters is not None:
            self.parameters(gateway["spec"]["infrastructure"]["parametersRef"]["name"], parameters)
        self._admin.create(gateway)
        always = KINDS - {"HorizontalPodAutoscaler"}
        await self.until(
            lambda: {each["kind"] for each in self.objects(name)} >= always, f"objects of {name}"
        )

    def parameters(self, name: str, data: Mapping[str, str]) -> None:
        """Put the ConfigMap, whole."""
        tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SYSTEM}}
        if (found := self._admin.get(tree)) is None:
            self._admin.create({**tree, "data": dict(data)})
        else:
            gone = dict.fromkeys(found.get("data") or {})
            self._admin.patch(tree, {"data": gone | dict(data)})

    def gateway(self, name: str) -> Tree:
        """The Gateway as it is."""
        found = self._admin.get(a_gateway(name))
        assert found is not None
        return found

    def uid(self, name: str) -> str:
        """Its uid."""
        return str(self.gateway(name)["metadata"]["uid"])

    def conditions(self, name: str) -> set[tuple[str, str]]:
        """Type and status of its conditions."""
        return {
            (each["type"], each["status"])
            for each in self.gateway(name).get("status", {}).get("conditions", ())
        }

    def change(self, name: str, patch: Tree) -> None:
        """Merge into a Gateway."""
        self._admin.patch(a_gateway(name), patch)

    def delete(self, name: str) -> None:
        """Delete a Gateway."""
        self._admin.delete(a_gateway(name))

    def object(self, kind: str, name: str) -> Any:
        """One object, or None."""
        return self._admin.get(
            {"apiVersion": _VERSIONS[kind], "kind": kind, "metadata": {"name": name, "namespace": SYSTEM}}
        )

    def objects(self, name: str) -> list[Tree]:
        """All objects of a Gateway, each with its kind."""
        return [
            {**each, "kind": kind}
            for kind in sorted(KINDS)
            if (each := self.object(kind, name)) is not None and "deletionTimestamp" not in each["metadata"]
        ]

    async def until(self, look: Callable[[], Any], what: str) -> None:
        """Wait for it."""
        await self._cluster.until(look, PATIENCE, what)
