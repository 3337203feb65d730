"""What of a real istiod a peerd beside it depends on: its CA by CSR, its Deployment, its controllers.

The CA is peerd's own service with istiod's authentication (a token of the account, by TokenReview). The rest
is played by hand: a Deployment with flags, addresses of ServiceEntries as its controller writes them.
"""

import time
from pathlib import Path
from typing import Any

from peerd.app.parts import SystemClock
from peerd.ca import authority
from peerd.ca.bundle import load_bundle
from peerd.ca.issue import server_certificate
from peerd.kubeapi.credentials import Credentials
from peerd.kubeapi.http import HttpTransport
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.serve.authentication import by_token, chain
from peerd.serve.certificates import CertificateService
from peerd.serve.own_tls import OwnTls
from peerd.serve.pods import PodIndex
from peerd.serve.token_review import TokenReviewVerifier
from peerd.transport.grpcaio import GrpcServer
from tests.support import rbac
from tests.support.apiserver import ApiServer

SELECT = "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES"
MULTI_NETWORK = "AMBIENT_ENABLE_MULTI_NETWORK"
RIGHT = {SELECT: "false"}
ISTIO = "networking.istio.io/v1"
BESIDE_ROLES = rbac.BASE.parent / "beside"


class Istiod:
    """One cluster's istiod: `start`, then `address` and `root_file` are what peerd is told."""

    def __init__(self, api: ApiServer, root: Path, issuer: authority.Issuer, cluster: str) -> None:
        self._api = api
        self._root = root
        self._cluster = cluster
        authority.write_new(root / "ca", authority.make_cluster_ca(issuer, cluster, time.time()))
        self.root_file = root / "ca" / "root-cert.pem"
        self.address = ""

    async def start(self, flags: dict[str, str] | None = None) -> None:
        """Certify from now on; its Deployment says *flags*."""
        bundle, clock = load_bundle(self._root / "ca", time.time()), SystemClock()
        credentials = Credentials(str(self._api.kubeconfig()), "")
        await credentials.load()
        self._transport = HttpTransport(credentials)
        verifier = TokenReviewVerifier(self._transport, ("istio-ca",), clock)
        authenticate = chain(by_token(verifier, lambda: "cluster.local", lambda: (self._cluster,)))
        service = CertificateService(lambda: bundle, authenticate, PodIndex(), (), clock)
        tls = OwnTls(lambda: bundle, lambda ca, now: server_certificate(ca, ("localhost",), now), clock)
        self._server = GrpcServer("localhost:0", {CREATE_CERTIFICATE_METHOD: service.handle}, tls=tls)
        bound = await self._server.start()
        self.address = f"localhost:{bound.rpartition(':')[2]}"
        self._api.admin.apply(deployment(RIGHT if flags is None else flags))
        self.rolled_out()

    def flags(self, flags: dict[str, str]) -> None:
        """Its Deployment is edited; the Pods are not replaced yet."""
        self._api.admin.apply(deployment(flags))

    def rolled_out(self) -> None:
        """Every Pod is of the present template."""
        found = self._api.admin.get(deployment({}))
        assert found is not None
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
        }
        self._api.admin.set_status(found, status)

    def accept(self, gateway: dict[str, Any]) -> None:
        """Write the status of an istio-remote Gateway: its own addresses."""
        self._api.admin.set_status(gateway, {"addresses": gateway["spec"]["addresses"]})

    async def stop(self) -> None:
        """Certify no more."""
        await self._server.close(0)
        await self._transport.close()


def generated(api: ApiServer) -> dict[str, dict[str, Any]]:
    """What lies there of peerd's making, by `<Kind>/<namespace>/<name>`."""
    return {
        f"{kind}/{tree['metadata']['namespace']}/{tree['metadata']['name']}": tree
        for kind in ("ServiceEntry", "WorkloadEntry")
        for tree in api.admin.items(ISTIO, kind)
        if tree["metadata"].get("labels", {}).get("peerd.io/generated") == "true"
    }


def short(key: str) -> str:
    """The key of a generated object, without the hash of place and gateway."""
    kind, where, name = key.split("/")
    return f"{kind}/{where}/{name.rpartition('.')[0]}" if kind == "WorkloadEntry" else key


def deployment(flags: dict[str, str]) -> dict[str, Any]:
    """The Deployment as istiod's chart makes it, as far as anybody looks."""
    container = {
        "name": "discovery",
        "image": "pilot",
        "env": [{"name": name, "value": value} for name, value in flags.items()],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "istiod"}},
            "template": {
                "metadata": {"labels": {"app": "istiod"}},
                "spec": {"containers": [container]},
            },
        },
    }
