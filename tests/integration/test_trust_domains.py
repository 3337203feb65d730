"""Two whole control planes, each with a trust domain and a root of its own (decisions D14, D29)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.ca import authority, pem
from peerd.ca.leaf import Issuer
from peerd.model.config import ServeConfig
from peerd.protocol.peer_state import PeerState
from peerd.sources.directory import DirectorySource
from tests.support import cas
from tests.support.identities import START


def _manifests(name: str, others: dict[str, Issuer], peer: str, port: int) -> list[object]:
    """A cluster whose mesh configuration trusts *others*, with an istio-remote Gateway to *peer*."""
    mesh = {
        "trustDomain": name,
        "caCertificates": [
            {"pem": pem.write_certificates(root.certificate).decode(), "trustDomains": [domain]}
            for domain, root in others.items()
        ],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": f"{name}-net"}},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": json.dumps(mesh)},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {
                "name": f"peer-{peer}",
                "namespace": "istio-system",
                "labels": {
                    "topology.istio.io/network": f"{peer}-net",
                    "topology.istio.io/cluster": peer,
                },
                "annotations": {"gateway.istio.io/trust-domain": peer},
            },
            "spec": {
                "gatewayClassName": "istio-remote",
                "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
                "listeners": [
                    {"name": "xds-tls", "port": port, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
                ],
            },
        },
    ]


@pytest.fixture
def ports() -> dict[str, int]:
    found = {name: socket.socket() for name in ("east", "west")}
    for each in found.values():
        each.bind(("127.0.0.1", 0))
    numbers = {name: each.getsockname()[1] for name, each in found.items()}
    for each in found.values():
        each.close()
    return numbers


@pytest.fixture
def roots() -> dict[str, Issuer]:
    return {name: authority.make_root(name, START) for name in ("east", "west")}


class Clusters:
    """east and west, started by a test and stopped after it."""

    def __init__(self, directory: Path, ports: dict[str, int], roots: dict[str, Issuer]) -> None:
        self.directory, self.ports, self.roots = directory, ports, roots
        self.running: list[Peerd] = []

    async def start(self, name: str, peer: str, others: dict[str, Issuer]) -> Peerd:
        home = self.directory / name
        self.write(name, peer, others)
        authority.write_new(home / "ca", cas.cluster_files(self.roots[name], name, START))
        config = ServeConfig(
            source="dir",
            state_dir=str(home / "state"),
            ca_dir=str(home / "ca"),
            cluster_id=name,
            xds_addr="127.0.0.1:0",
            peer_addr=f"127.0.0.1:{self.ports[name]}",
            http_addr="127.0.0.1:0",
        )
        peerd = Peerd(config, Parts(DirectorySource(home / "manifests")))
        self.running.append(peerd)
        await peerd.start()
        await peerd.ready()
        return peerd

    def write(self, name: str, peer: str, others: dict[str, Issuer]) -> None:
        directory = self.directory / name / "manifests"
        directory.mkdir(parents=True, exist_ok=True)
        objects = _manifests(name, others, peer, self.ports[peer])
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        (directory / "all.json").write_text(text + "\n")

    async def until(self, peerd: Peerd, happened: Callable[[PeerState, str], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                rows = peerd.federation.table.snapshot()
                if rows and happened(rows[0].status.state, rows[0].status.last_error):
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
async def clusters(
    tmp_path: Path, ports: dict[str, int], roots: dict[str, Issuer]
) -> AsyncIterator[Clusters]:
    made = Clusters(tmp_path, ports, roots)
    yield made
    for peerd in made.running:
        await peerd.stop(1.0)


async def test_two_trust_domains_peer_by_each_others_roots(clusters: Clusters) -> None:
    """By caCertificates of both mesh configurations, both ways; neither root file holds the other's root."""
    roots = clusters.roots
    west = await clusters.start("west", "east", {"east": roots["east"]})
    east = await clusters.start("east", "west", {"west": roots["west"]})

    for peerd in (east, west):
        await clusters.until(peerd, lambda state, _: state is PeerState.LIVE)


async def test_a_root_that_is_not_configured_is_refused_until_it_is(clusters: Clusters) -> None:
    """The state says why; an edit of the mesh configuration mends it without a restart."""
    roots = clusters.roots
    await clusters.start("west", "east", {"east": roots["east"]})
    east = await clusters.start("east", "west", {})

    await clusters.until(east, lambda _, error: "certificate verify failed" in error)
    clusters.write("east", "west", {"west": roots["west"]})

    await clusters.until(east, lambda state, _: state is PeerState.LIVE)


async def test_a_root_configured_for_another_domain_does_not_speak_for_the_peers(clusters: Clusters) -> None:
    """west's root, trusted for `north` only: the chain stands, the name under it does not."""
    roots = clusters.roots
    await clusters.start("west", "east", {"east": roots["east"]})
    east = await clusters.start("east", "west", {"north": roots["west"]})

    await clusters.until(east, lambda _, error: "no root is known for trust domain 'west'" in error)
