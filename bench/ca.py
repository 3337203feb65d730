"""Signatures a second beside raw cryptography, and what a storm of certificate requests costs a push.

Raw is the same certificate made with `cryptography` alone: parse the request, check its signature, build,
sign, PEM. The storm is 1,000 connected ztunnels that all ask at once, ten times; a client in another process
takes the time from the object event in the server to the message, idle and during the storms.
"""

import asyncio
import datetime as dt
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from bench._ca_stage import SERVER_NAME, WEB, csr
from bench.figures import Figures, quantile
from peerd.ca import authority, tokens
from peerd.ca.bundle import CaBundle, load_bundle, parse_bundle
from peerd.ca.signer import sign_request
from peerd.encode.address import decode_address
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.workload import Workload
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import Node
from peerd.transport.grpcaio import GrpcChannel

SIGNATURES = 400
BATCHES = 7
CALLERS = 1000
STORMS = 10
IDLE_SECONDS = 1.5


def main() -> int:
    """Both parts; 1 where a bar is missed."""
    figures = Figures("ca")
    for name, use_rsa in (("ec", False), ("rsa", True)):
        _signatures(figures, name, use_rsa=use_rsa)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_storm(figures, _prepare(Path(directory))))
    return figures.finish()


# -- signatures ------------------------------------------------------------------------------------------


def _signatures(figures: Figures, name: str, *, use_rsa: bool) -> None:
    now = time.time()
    files = authority.make_cluster_ca(
        authority.make_root("bench", now, use_rsa=use_rsa), "bench", now, use_rsa=use_rsa
    )
    bundle = parse_bundle(files, Path("bench"), now)
    request = csr()
    ours, raw = [], []
    for _ in range(BATCHES):  # interleaved, so that whatever else the machine does falls on both
        ours.append(_each(lambda: sign_request(bundle, request, WEB, 3600, now)))
        raw.append(_each(lambda: _raw(bundle, request, now)))
    ratios = [one / other for one, other in zip(ours, raw, strict=True)]
    figures.figure(f"{name}_signatures", 1 / quantile(ours, 0.5), "1/s", samples=[1 / each for each in ours])
    figures.figure(f"{name}_raw", 1 / quantile(raw, 0.5), "1/s", samples=[1 / each for each in raw])
    figures.quantile(f"{name}_time_beside_raw", ratios, 0.5, "x", at_most=1.5)


def _each(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(SIGNATURES):
        work()
    return (time.perf_counter() - started) / SIGNATURES


def _raw(bundle: CaBundle, request: str, now: float) -> bytes:
    parsed = x509.load_pem_x509_csr(request.encode())
    key = parsed.public_key()
    if not parsed.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError("the request is not good")
    begin = dt.datetime.fromtimestamp(int(now), dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(bundle.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(hours=1))
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                bundle.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WEB)]), critical=True)
        .sign(bundle.key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


# -- pushes during a storm -------------------------------------------------------------------------------


def _prepare(directory: Path) -> Path:
    now = time.time()
    root = authority.make_root("bench", now)
    authority.write_new(directory / "ca", authority.make_cluster_ca(root, "bench", now))
    issuer = tokens.make_issuer()
    (directory / "jwks.json").write_bytes(issuer.jwks)
    token = tokens.service_account_token(
        issuer, "istio-system", "ztunnel", now, pod_name="zt-1", pod_uid="uid-zt-1"
    )
    (directory / "token").write_text(token)
    load_bundle(directory / "ca", now)
    return directory


async def _storm(figures: Figures, directory: Path) -> None:
    server = await _start("serve", str(directory))
    address = await _line(server)
    arrivals: list[tuple[int, int]] = []  # sent and received, monotonic nanoseconds
    watching = asyncio.create_task(_watch(directory, address, arrivals))
    callers = await _start("ask", str(directory), address, str(CALLERS), str(STORMS))
    await _line(callers)

    quiet, storms = [], []
    for _ in range(STORMS):  # by turns, so that whatever else the machine does falls on both
        await asyncio.sleep(0.5)
        quiet.append((time.monotonic_ns(), time.monotonic_ns() + int(IDLE_SECONDS * 1e9)))
        await asyncio.sleep(IDLE_SECONDS)
        assert callers.stdin is not None
        callers.stdin.write(b"go\n")
        began, ended = map(int, (await _line(callers)).split())
        storms.append((began, ended))
    if watching.done():
        watching.result()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    for process in (callers, server):
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    idle, busy = (
        [(at - sent) / 1e6 for sent, at in arrivals if any(a <= sent < b for a, b in spans)]
        for spans in (quiet, storms)
    )
    seconds = [(ended - began) / 1e9 for began, ended in storms]
    figures.quantile("storm_of_1000", seconds, 0.5, "s")
    figures.figure("storm_rate", CALLERS / quantile(seconds, 0.5), "1/s")
    figures.quantile("push_idle_p50", idle, 0.5, "ms")
    figures.quantile("push_idle_p99", idle, 0.99, "ms")
    figures.quantile("push_storm_p50", busy, 0.5, "ms")
    figures.quantile("push_storm_p99", busy, 0.99, "ms")
    figures.figure(
        "push_storm_p99_beside_idle", quantile(busy, 0.99) / quantile(idle, 0.99), "x", at_most=2.0
    )


async def _watch(directory: Path, address: str, arrivals: list[tuple[int, int]]) -> None:
    """A ztunnel-like client that notes when each change arrives."""
    channel = GrpcChannel(
        address, roots=(directory / "ca" / "root-cert.pem").read_bytes(), server_name=SERVER_NAME
    )
    token = (directory / "token").read_text()
    stream = await channel.open(DELTA_METHOD, {"authorization": f"Bearer {token}", "clusterid": "bench"})
    node = Node("ztunnel~10.0.0.2~zt-1.istio-system~istio-system.svc.cluster.local")
    machine = DeltaClient((ADDRESS, AUTHORIZATION), node)
    for request in machine.start():
        await stream.send(request)
    while (message := await stream.receive()) is not None:
        at = time.monotonic_ns()
        response = machine.receive(message)
        for resource in response.resources:
            record = decode_address(resource.payload) if response.type_url == ADDRESS else None
            if isinstance(record, Workload) and record.canonical_name.isdigit():
                arrivals.append((int(record.canonical_name), at))
        await stream.send(machine.accept(response))


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench._ca_stage",
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the benchmark ended early")
    return line.decode().strip()
