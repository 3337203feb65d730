"""The files of one Envoy without a cluster around it: certificates as a CA would give them, a bootstrap."""

import time
from pathlib import Path

from peerd.ca import authority
from peerd.ca.bundle import CaBundle, parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.gateway.bootstrap import bootstrap
from peerd.gateway.certificate import read_identity
from peerd.gateway.files import BOOTSTRAP_FILE, write, write_secrets
from peerd.gateway.settings import GatewaySettings
from peerd.model.identity import SpiffeId
from peerd.transport.tls import TlsMaterial
from tests.support.gateways import ACCOUNT

CONTROL_PLANE = SpiffeId("cluster.local", "istio-system", "peerd")


def settings(
    directory: Path, *, xds: str = "127.0.0.1:1", block: str = "127.0.0", peers: str = "127.0.0.1:1"
) -> GatewaySettings:
    """Those of a gateway at `<block>.1`."""
    return GatewaySettings(
        namespace="istio-system",
        name=ACCOUNT,
        directory=str(directory),
        xds=xds,
        ca="127.0.0.1:1",
        peers=peers,
        roots_file=str(directory / "root-cert.pem"),
        token_file=str(directory / "token"),
        control_plane=CONTROL_PLANE,
        ip=f"{block}.1",
        bind=f"{block}.1",
        health=f"{block}.1:15021",
        stats=f"{block}.1:15020",
        concurrency=1,
    )


def make_ca(directory: Path) -> CaBundle:
    """A cluster's CA whose root lies in *directory*."""
    now = time.time()
    bundle = parse_bundle(
        authority.make_cluster_ca(authority.make_root("test", now), "west", now), Path("memory"), now
    )
    (directory / "root-cert.pem").write_bytes(bundle.roots_pem)
    return bundle


def material(ca: CaBundle, identity: str) -> TlsMaterial:
    """A certificate of *ca* for *identity*."""
    own = identity_certificate(ca, identity, time.time())
    return TlsMaterial(own.certificate_chain, own.private_key, ca.roots_pem)


def prepare(ca: CaBundle, given: GatewaySettings) -> None:
    """Write secrets and bootstrap, as the companion does once it has a certificate."""
    own = material(ca, str(given.identity))
    identity = read_identity(
        own.certificate_chain.decode(), own.private_key.decode(), ca.roots_pem.decode(), given
    )
    write_secrets(given, identity)
    write(Path(given.directory), BOOTSTRAP_FILE, bootstrap(given))
