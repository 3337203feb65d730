"""The files of one Envoy without a cluster around it: certificates as a CA would give them, a bootstrap."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2  # noqa: F401 (for Any)
from envoy.extensions.access_loggers.stream.v3 import stream_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2  # noqa: F401
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401
from google.protobuf import json_format
from google.protobuf.message import Message

from peerd.ca import authority
from peerd.ca.bundle import CaBundle, parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.encode.envoy import encode_cluster, encode_endpoints
from peerd.encode.envoy_listeners import encode_listener, encode_route
from peerd.encode.frame import decode_frame
from peerd.gateway.admin import ask
from peerd.gateway.bootstrap import bootstrap
from peerd.gateway.certificate import Identity, read_identity
from peerd.gateway.companion import envoy_arguments
from peerd.gateway.files import write, write_secrets
from peerd.gateway.settings import GatewaySettings
from peerd.model.address import Locality, parse_ip
from peerd.model.gateway_config import (
    BOOTSTRAP_FILE,
    GatewayCluster,
    GatewayEndpoint,
    GatewayEndpoints,
    GatewayListener,
    GatewayPlace,
    ListenerKind,
)
from peerd.model.identity import SpiffeId
from peerd.transport.tls import TlsMaterial
from tests.support.gateways import ACCOUNT, envoy
from tests.support.ports import address_block

CONTROL_PLANE = SpiffeId("cluster.local", "istio-system", "peerd")


def settings(
    directory: Path,
    *,
    xds: str = "127.0.0.1:1",
    block: str = "127.0.0",
    other_roots: tuple[tuple[str, str], ...] = (),
    other_pem: tuple[tuple[str, str], ...] = (),
) -> GatewaySettings:
    """Those of a gateway at `<block>.1`."""
    return GatewaySettings(
        namespace="istio-system",
        name=ACCOUNT,
        directory=str(directory),
        xds=xds,
        ca="127.0.0.1:1",
        peers="127.0.0.1:1",
        roots_file=str(directory / "root-cert.pem"),
        token_file=str(directory / "token"),
        control_plane=CONTROL_PLANE,
        ip=f"{block}.1",
        bind=f"{block}.1",
        health=f"{block}.1:15021",
        stats=f"{block}.1:15020",
        concurrency=1,
        other_roots=other_roots,
        other_pem=other_pem,
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


def identity_of(ca: CaBundle, given: GatewaySettings) -> Identity:
    """What *ca* gives a gateway."""
    own = material(ca, str(given.identity))
    return read_identity(
        own.certificate_chain.decode(), own.private_key.decode(), ca.roots_pem.decode(), given
    )


def prepare(ca: CaBundle, given: GatewaySettings) -> None:
    """Write secrets and bootstrap, as the companion does once it has a certificate."""
    write_secrets(given, identity_of(ca, given))
    write(Path(given.directory), BOOTSTRAP_FILE, bootstrap(given))


class StaticEnvoy:
    """An Envoy with the hbone listener and fixed clusters, without a peerd: for what Envoy alone decides.

    Args:
        directory: its own.
        clusters: addresses of receiving ends by authority, all of weight 1 and of no place.
        places: instead, those of every authority with their places and weights.
        locality: where it runs itself.
    """

    def __init__(
        self,
        directory: Path,
        clusters: dict[str, list[str]],
        *,
        places: tuple[GatewayPlace, ...] = (),
        locality: Locality | None = None,
    ) -> None:
        self.ca = make_ca(directory)
        self.block = address_block()
        self.log = directory / "envoy.log"
        self._directory = directory
        self._clusters = clusters
        self._places = places
        self._locality = locality
        self._process: asyncio.subprocess.Process | None = None

    @property
    def hbone(self) -> tuple[str, int]:
        """Where it takes HBONE."""
        return f"{self.block}.1", 15008

    async def start(self) -> None:
        """Start it and wait until it listens."""
        given = msgspec.structs.replace(
            settings(self._directory, block=self.block), locality=self._locality or Locality()
        )
        prepare(self.ca, given)
        path = self._directory / BOOTSTRAP_FILE
        tree = json.loads(path.read_text())
        del tree["dynamic_resources"]
        listener = GatewayListener(f"istio-system/{ACCOUNT}", ListenerKind.HBONE, f"{self.block}.1", 15008)
        made = _as_tree(Listener(), decode_frame(encode_listener(listener).frame).payload)
        manager = made["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["rds"]
        manager["route_config"] = _as_tree(RouteConfiguration(), decode_frame(encode_route().frame).payload)
        tree["static_resources"]["listeners"].append(made)
        for authority_, addresses in self._clusters.items():
            places = self._places or (
                GatewayPlace(
                    Locality(), tuple(GatewayEndpoint(parse_ip(a) or b"", 15008, 1) for a in addresses)
                ),
            )
            load = encode_endpoints(GatewayEndpoints("fixed", places))
            cluster = _as_tree(
                Cluster(), decode_frame(encode_cluster(GatewayCluster(authority_, "fixed")).frame).payload
            )
            cluster |= {
                "type": "STATIC",
                "load_assignment": _as_tree(ClusterLoadAssignment(), decode_frame(load.frame).payload),
            }
            del cluster["eds_cluster_config"]
            tree["static_resources"]["clusters"].append(cluster)
        path.write_text(json.dumps(tree))
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                envoy(), *envoy_arguments(given), cwd=self._directory, stdout=output, stderr=output
            )
        async with asyncio.timeout(60):
            while True:
                assert self._process.returncode is None, self.log.read_text()
                try:
                    _, writer = await asyncio.open_connection(f"{self.block}.1", 15021)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def statistics(self) -> str:
        """All of Envoy's, as Prometheus reads them."""
        return await ask(self._directory, "GET", "/stats/prometheus")

    async def counter(self, name: str) -> int:
        """The sum of an Envoy statistic over its labels, by its Prometheus name."""
        text = await self.statistics()
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)

    async def until_counted(self, name: str) -> None:
        """Wait until a statistic is more than nothing."""
        try:
            async with asyncio.timeout(60):
                while not await self.counter(name):  # noqa: ASYNC110 (Envoy tells nobody)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} stays 0") from None

    async def until_logged(self, text: str) -> None:
        """Wait until its log holds *text*."""
        try:
            async with asyncio.timeout(60):
                while text not in self.log.read_text("utf-8", "replace"):  # noqa: ASYNC110 (it tells nobody)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{text!r} is not logged") from None

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _as_tree(message: Message, payload: bytes) -> dict[str, Any]:
    message.ParseFromString(payload)
    tree: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return tree
