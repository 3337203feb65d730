"""A rotation under 50 ztunnel streams and 5 peers: none is dropped, new handshakes are under the new CA."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.ca import authority, pem, reissue, tokens
from peerd.ca.bundle import load_bundle
from peerd.ca.describe import key_sha256
from peerd.ca.leaf import Issuer
from peerd.cli.demo.ztunnel import Ztunnel
from peerd.encode.certificates import decode_certificate_response, encode_certificate_request
from peerd.model.certificate import CertificateRequest
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.kube.core import Condition, Namespace, Pod, PodIP, PodSpec, PodStatus
from peerd.model.kube.meta import KubeObject, ObjectKey, ObjectMeta
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.protocol.peer_state import PeerState
from peerd.sources.base import Sink
from peerd.transport.grpcaio import GrpcChannel
from peerd.transport.http2 import split_address
from peerd.transport.tls import client_context, peer_certificate
from tests.support import cas
from tests.support.identities import START, cluster_bundle, material, new_root
from tests.support.mesh_certs import Authority
from tests.support.peering import PeeringCluster
from tests.support.ports import unused_ports
from tests.support.ztunnel_ca_rules import check_answer

WEB = "spiffe://cluster.local/ns/shop/sa/web"
SERVER_NAME = "istiod.istio-system.svc"


def _put(kind: str, made: KubeObject) -> ObjectChange:
    return ObjectChange(kind, made.key, made)


def _pod(namespace: str, name: str, account: str, address: str) -> ObjectChange:
    return _put(
        "Pod",
        Pod(
            metadata=ObjectMeta(name=name, namespace=namespace, uid=f"uid-{name}"),
            spec=PodSpec(node_name="n1", service_account_name=account),
            status=PodStatus(
                phase="Running",
                pod_ip=address,
                pod_ips=(PodIP(address),),
                conditions=(Condition("Ready", "True"),),
            ),
        ),
    )


class Objects:
    """A source that has told everything at once."""

    async def run(self, sink: Sink) -> None:
        network = {"topology.istio.io/network": "net"}
        sink.apply(
            [
                _put("Namespace", Namespace(metadata=ObjectMeta(name="istio-system", labels=network))),
                _pod("istio-system", "zt-1", "ztunnel", "10.0.0.2"),
                _pod("shop", "web", "web", "10.0.0.3"),
            ]
        )
        sink.synced()
        await asyncio.Event().wait()


@dataclass
class Mesh:
    """One peerd with its CA directory, and what is connected to it."""

    peerd: Peerd
    ca: Path
    root: Issuer
    bound: dict[str, str]
    token: str
    ztunnels: list[Ztunnel] = field(default_factory=list)
    peers: list[tuple[PeeringCluster, ObjectKey]] = field(default_factory=list)

    async def issuer_of(self, flag: str) -> str:
        """The key that issued what a new handshake on this port shows."""
        host, port = split_address(self.bound[flag])
        shown = material(cluster_bundle(self.root, "probe"), roots=self._every_root)
        context = client_context(shown)
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        proved = peer_certificate(writer.get_extra_info("ssl_object"), shown)
        writer.close()
        return proved.issuer_key_sha256

    async def certificate(self) -> tuple[str, ...]:
        """A certificate for web, asked for as its node's ztunnel does; checked as ztunnel and openssl do."""
        csr = cas.csr(uri=WEB)
        channel = GrpcChannel(self.bound["--xds-addr"], roots=self._every_root, server_name=SERVER_NAME)
        stream = await channel.open(
            CREATE_CERTIFICATE_METHOD, {"authorization": f"Bearer {self.token}", "clusterid": "east"}
        )
        await stream.send(encode_certificate_request(CertificateRequest(csr, 3600, WEB)))
        await stream.half_close()
        answer = await stream.receive()
        assert answer is not None
        assert await stream.receive() is None
        await channel.close()
        chain = decode_certificate_response(answer)
        check_answer(chain, csr, WEB, time.time())
        cas.openssl_verify(chain, time.time(), purpose="sslserver")
        return chain

    async def follows(self) -> None:
        """Wait until new handshakes of both ports, and signatures, come from what is on disk now."""
        bundle = load_bundle(self.ca, time.time())
        wanted = key_sha256(bundle.certificate)
        async with asyncio.timeout(60):  # each look is a whole handshake, which paces it
            while (await self.certificate())[-1] != bundle.roots_text:
                pass
            for flag in ("--xds-addr", "--peer-addr"):
                while await self.issuer_of(flag) != wanted:
                    pass
        leaf = x509.load_pem_x509_certificate((await self.certificate())[0].encode())
        leaf.verify_directly_issued_by(bundle.certificate)

    async def everybody_hears(self, address: str) -> None:
        """A change reaches every stream that was open from the beginning, and no peer moved."""
        self.peerd.objects.apply([_pod("shop", "web", "web", address)])
        wanted = bytes(map(int, address.split(".")))
        for ztunnel in self.ztunnels:
            await ztunnel.until(lambda z=ztunnel: _address(z) == wanted, 60, "the change")  # type: ignore[misc]
        assert [peer.row(key).status.state for peer, key in self.peers] == [PeerState.LIVE] * 5

    @property
    def _every_root(self) -> bytes:
        old = pem.write_certificates(self.root.certificate)
        return self.peerd._ca.bundle.roots_pem + old


def _address(ztunnel: Ztunnel) -> bytes | None:
    workload = ztunnel.workloads.get("east//Pod/shop/web")
    return workload.addresses[0] if workload else None


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    root = new_root()
    authority.write_new(tmp_path, authority.root_files(root))
    authority.write_new(tmp_path / "ca", cas.cluster_files(root, "east", START))
    issuer = tokens.make_issuer()
    (tmp_path / "jwks.json").write_bytes(issuer.jwks)
    config = ServeConfig(
        source="memory",
        state_dir=str(tmp_path / "state"),
        ca_dir=str(tmp_path / "ca"),
        cluster_id="east",
        xds_addr="127.0.0.1:0",
        peer_addr=f"127.0.0.1:{unused_ports(1)[0]}",
        http_addr="127.0.0.1:0",
        jwks_file=str(tmp_path / "jwks.json"),
    )
    peerd = Peerd(config, Parts(source=Objects()))
    bound = await peerd.start()
    await peerd.ready()
    token = tokens.service_account_token(
        issuer, "istio-system", "ztunnel", time.time(), pod_name="zt-1", pod_uid="uid-zt-1"
    )
    mesh = Mesh(peerd, tmp_path / "ca", root, bound, token)
    yield mesh
    for ztunnel in mesh.ztunnels:
        await ztunnel.close()
    for peer, _ in mesh.peers:
        await peer.stop()
    await peerd.stop(1.0)


async def _connect(mesh: Mesh) -> None:
    roots = load_bundle(mesh.ca, time.time()).roots_pem
    for _ in range(50):
        mesh.ztunnels.append(Ztunnel("east", mesh.bound["--xds-addr"], roots, lambda: mesh.token))
    await asyncio.gather(*(ztunnel.connect(60) for ztunnel in mesh.ztunnels))
    for number in range(5):
        peer = PeeringCluster(f"peer-{number}", Authority("unused"))
        peer.tls.material = material(cluster_bundle(mesh.root, peer.name))
        await peer.start()
        mesh.peers.append((peer, peer.link(mesh.bound["--peer-addr"], network="")))
    for peer, key in mesh.peers:
        await peer.until(lambda p=peer, k=key: p.row(k).status.state is PeerState.LIVE, "live")  # type: ignore[misc]


async def test_a_rotation_of_intermediate_and_root_drops_nobody(mesh: Mesh) -> None:
    """New issuer; then new root added, issuer switched, old root removed; then a half-written file."""
    await _connect(mesh)
    await mesh.everybody_hears("10.0.1.1")
    since = [peer.row(key).status.since for peer, key in mesh.peers]
    streams = [ztunnel._stream for ztunnel in mesh.ztunnels]
    new = authority.make_root("new", START)
    steps: list[Callable[[], None]] = [
        lambda: reissue.new_issuer(mesh.ca, mesh.root, time.time(), days=30, use_rsa=False),
        lambda: reissue.add_root(mesh.ca, new.certificate, time.time()),
        lambda: reissue.new_issuer(mesh.ca, new, time.time(), days=30, use_rsa=True),
        lambda: reissue.remove_root(mesh.ca, mesh.root.certificate, time.time()),
    ]

    for number, step in enumerate(steps):
        before = await mesh.issuer_of("--xds-addr")
        step()
        await mesh.follows()
        await mesh.everybody_hears(f"10.0.2.{number + 1}")
        assert (await mesh.issuer_of("--xds-addr") != before) is (number in {0, 2})

    assert [peer.row(key).status.since for peer, key in mesh.peers] == since
    assert [ztunnel._stream for ztunnel in mesh.ztunnels] == streams

    chain = await mesh.certificate()
    whole = (mesh.ca / "cert-chain.pem").read_bytes()
    (mesh.ca / "cert-chain.pem").write_bytes(whole[:200])
    (mesh.ca / "ca-key.pem").write_bytes(b"")
    for _ in range(2):
        await asyncio.to_thread(mesh.peerd._ca.look)
    assert (await mesh.certificate())[1:] == chain[1:]
    assert "cut short" in mesh.peerd._ca.problem
    await mesh.everybody_hears("10.0.3.1")


async def test_the_server_certificate_answers_to_istiods_name(mesh: Mesh) -> None:
    """Verified as ztunnel does: chain, DNS name of XDS_ADDRESS, ALPN h2, TLS 1.3 (§6 item 1)."""
    host, port = split_address(mesh.bound["--xds-addr"])
    context = ssl.create_default_context(cadata=load_bundle(mesh.ca, time.time()).roots_text)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])

    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=SERVER_NAME)

    connection = writer.get_extra_info("ssl_object")
    assert connection.selected_alpn_protocol() == "h2"
    assert connection.version() == "TLSv1.3"
    der = connection.getpeercert(binary_form=True)
    leaf = x509.load_der_x509_certificate(der)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    writer.close()
