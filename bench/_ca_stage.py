"""The processes of bench/ca: one peerd whose one Pod changes all the time, and 1,000 callers of its CA.

`python -m bench._ca_stage serve DIR` serves and prints its address; `... ask DIR ADDRESS COUNT ROUNDS`
connects and, at each line on standard input, asks for COUNT certificates at once and prints when.
"""

import asyncio
import gc
import os
import sys
import time
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from peerd.app.parts import Parts
from peerd.app.peerd import Peerd
from peerd.cli import logging
from peerd.encode.certificates import decode_certificate_response, encode_certificate_request
from peerd.model.certificate import CertificateRequest
from peerd.model.changes import ObjectChange
from peerd.model.config import ServeConfig
from peerd.model.kube.core import Condition, Namespace, Pod, PodIP, PodSpec, PodStatus
from peerd.model.kube.meta import ObjectMeta
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.sources.base import Sink
from peerd.transport.grpcaio import GrpcChannel, GrpcOptions

CHANGES_A_SECOND = 100
SERVER_NAME = "istiod.istio-system.svc"
WEB = "spiffe://cluster.local/ns/shop/sa/web"


class Changing:
    """A source whose one Pod carries the moment of its last change as its app label."""

    async def run(self, sink: Sink) -> None:
        """Feed *sink* until cancelled."""
        namespace = Namespace(
            metadata=ObjectMeta(name="istio-system", labels={"topology.istio.io/network": "bench"})
        )
        sink.apply(
            [
                ObjectChange("Namespace", namespace.key, namespace),
                pod("istio-system", "zt-1", "ztunnel", "10.0.0.2"),
                pod("shop", "web", "web", "10.0.0.3"),
            ]
        )
        sink.synced()
        while True:
            await asyncio.sleep(1 / CHANGES_A_SECOND)
            sink.apply([pod("shop", "web", "web", "10.0.0.3", app=str(time.monotonic_ns()))])


def pod(namespace: str, name: str, account: str, address: str, app: str = "") -> ObjectChange:
    """A ready Pod on node n1."""
    labels = {"app": app} if app else {}
    made = Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=f"uid-{name}", labels=labels),
        spec=PodSpec(node_name="n1", service_account_name=account),
        status=PodStatus("Running", address, (PodIP(address),), (Condition("Ready", "True"),)),
    )
    return ObjectChange("Pod", made.key, made)


async def serve(directory: Path) -> None:
    """One peerd until standard input ends."""
    logging.configure("json", "error")  # to standard error: standard output is for the benchmark
    config = ServeConfig(
        source="memory",
        state_dir=str(directory / "state"),
        ca_dir=str(directory / "ca"),
        cluster_id="bench",
        xds_addr="127.0.0.1:0",
        peer_addr="127.0.0.1:0",
        http_addr="127.0.0.1:0",
        jwks_file=str(directory / "jwks.json"),
    )
    peerd = Peerd(config, Parts(source=Changing()))
    bound = await peerd.start()
    await peerd.ready()
    gc.collect()
    gc.freeze()  # as `peerd serve` does after its first sync
    print(bound["--xds-addr"], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await peerd.stop(1.0)


async def ask(directory: Path, address: str, count: int, rounds: int) -> None:
    """*count* connections, and at each line a request on every one of them."""
    roots = (directory / "ca" / "root-cert.pem").read_bytes()
    token = (directory / "token").read_text()
    metadata = {"authorization": f"Bearer {token}", "clusterid": "bench"}
    request = encode_certificate_request(CertificateRequest(csr(), 3600, WEB))
    # A number of its own in each channel's options keeps grpc from sharing one connection.
    channels = [
        GrpcChannel(address, roots=roots, server_name=SERVER_NAME, options=GrpcOptions(max_streams=100 + n))
        for n in range(count)
    ]
    gate = asyncio.Semaphore(20)

    async def one(channel: GrpcChannel) -> None:
        stream = await channel.open(CREATE_CERTIFICATE_METHOD, metadata)
        await stream.send(request)
        await stream.half_close()
        answer = await stream.receive()
        if answer is None or len(decode_certificate_response(answer)) < 2:
            raise RuntimeError("a certificate request was not answered")
        await stream.receive()

    async def connect(channel: GrpcChannel) -> None:
        async with gate:
            await one(channel)

    await asyncio.gather(*map(connect, channels))
    print("connected", flush=True)
    for _ in range(rounds):
        await asyncio.to_thread(sys.stdin.readline)
        started = time.monotonic_ns()
        await asyncio.gather(*map(one, channels))
        print(started, time.monotonic_ns(), flush=True)
    for channel in channels:
        await channel.close()


def csr() -> str:
    """As ztunnel makes it."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WEB)]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(serve(Path(sys.argv[2])))  # as `peerd serve` does
    else:
        os.nice(10)  # the callers stand for other machines; on this one they must not take the server's core
        asyncio.run(ask(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
