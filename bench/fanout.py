"""Pushes to many ztunnels: CPU, memory, latency, reconnects, cold starts, beside a bare grpc.aio server.

Servers and load are processes of their own, over TLS, one connection a client. The bare server is the same
transport with the same settings and a handler that writes and waits for the ACK, and nothing else; what is
compared with it is interleaved with it in one run. `python -m bench.fanout PART...` runs only some parts.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench._processes import Command, Helper
from bench.figures import Figures, quantile
from peerd.ca.bundle import load_bundle
from peerd.ca.issue import server_certificate, server_names
from peerd.ca.self_signed import ensure_self_signed

ROUNDS = 5
SECONDS = 6
STREAMS = 1_000
WINDOW_MS = 10.0
MIB = 1024 * 1024
BATCH = 50  # connections made at once, so that the handshakes of a part do not time out on a small machine

PARTS = ("cpu", "latency", "reconnect", "versions", "cold")


@contextmanager
def server(kind: str, folder: str) -> Iterator[tuple[Helper, str]]:
    """A running server and its address."""
    helper = Helper("bench._fanout_server", kind, folder)
    try:
        yield helper, str(helper.ask("start")["address"])
    finally:
        helper.stop()


@contextmanager
def load(folder: str, *, nice: int = 0) -> Iterator[Helper]:
    """A running load process."""
    helper = Helper("bench._fanout_clients", folder, nice=nice)
    try:
        yield helper
    finally:
        helper.stop()


def cpu(figures: Figures, folder: str) -> None:
    """1,000 streams, one push a second: CPU a message, memory a stream, latency."""
    per_message: dict[str, list[float]] = {"peerd": [], "bare": []}
    ages: dict[str, list[float]] = {"peerd": [], "bare": []}
    memory: dict[str, float] = {}
    with (
        server("peerd", folder) as peerd,
        server("bare", folder) as bare,
        load(folder) as to_peerd,
        load(folder) as to_bare,
    ):
        ends = {"peerd": (peerd, to_peerd), "bare": (bare, to_bare)}
        for name, ((helper, address), clients) in ends.items():
            before = helper.ask("usage")["rss"]
            clients.ask("connect", address=address, count=STREAMS, batch=BATCH)
            helper.ask("churn", rate=1, seconds=2)  # warm
            clients.ask("ages")
            memory[name] = (helper.ask("usage")["rss"] - before) / STREAMS / 1024
        for _ in range(ROUNDS):
            for name, ((helper, _address), clients) in ends.items():
                spent = helper.ask("churn", rate=1, seconds=SECONDS)
                per_message[name].append(spent["cpu"] / spent["pushes"] * 1e6)
                ages[name] += clients.ask("ages")["ages"]
                size = spent["bytes"] / spent["pushes"]
                print(f"  {name}: {per_message[name][-1]:.0f} us a message of {size:.0f} bytes")
    ratios = [p / b for p, b in zip(per_message["peerd"], per_message["bare"], strict=True)]
    figures.figure(
        "fanout.cpu.bare", statistics.median(per_message["bare"]), "us/message", samples=per_message["bare"]
    )
    figures.figure(
        "fanout.cpu.peerd",
        statistics.median(per_message["peerd"]),
        "us/message",
        samples=per_message["peerd"],
    )
    figures.figure(
        "fanout.cpu.ratio",
        statistics.median(per_message["peerd"]) / statistics.median(per_message["bare"]),
        "x",
        at_most=1.25,
        samples=ratios,
    )
    figures.figure("fanout.rss.bare", memory["bare"], "KiB/stream")
    figures.figure("fanout.rss.peerd", memory["peerd"], "KiB/stream")
    figures.figure("fanout.rss.ratio", memory["peerd"] / memory["bare"], "x", at_most=1.2)
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        base = quantile(ages["bare"], share)
        figures.figure(f"fanout.latency.1000x1.bare.{name}", base, "ms", samples=ages["bare"])
        figures.quantile(
            f"fanout.latency.1000x1.{name}", ages["peerd"], share, "ms", at_most=1.3 * base + WINDOW_MS
        )


def latency(figures: Figures, folder: str) -> None:
    """20 streams, from 1 to 1,000 changes a second."""
    with (
        server("peerd", folder) as (peerd, peerd_address),
        server("bare", folder) as (bare, bare_address),
        load(folder) as to_peerd,
        load(folder) as to_bare,
    ):
        to_peerd.ask("connect", address=peerd_address, count=20)
        to_bare.ask("connect", address=bare_address, count=20)
        for rate in (1, 10, 100, 1000):
            seconds = 20 if rate == 1 else 8
            peerd.ask("churn", rate=rate, seconds=seconds)
            ages = to_peerd.ask("ages")["ages"]
            # The window merges: past 100 changes a second the bare server says several at once too.
            messages = min(rate, 90)
            bare.ask("churn", rate=messages, seconds=seconds, merge=max(1, rate // messages))
            base = quantile(to_bare.ask("ages")["ages"], 0.99)
            figures.quantile(f"fanout.latency.20x{rate}.p50", ages, 0.5, "ms", at_most=15.0)
            figures.quantile(f"fanout.latency.20x{rate}.p99", ages, 0.99, "ms", at_most=max(60.0, 4 * base))


def reconnect(figures: Figures, folder: str) -> None:
    """5,000 resources, 1,000 clients at once with true versions: what the server sends."""
    with server("peerd", folder) as (helper, address), load(folder) as clients:
        helper.ask("fill", count=5_000)
        first = clients.ask("connect", address=address, count=1)["first_bytes"]
        clients.ask("close")
        before = helper.ask("usage")
        answer = clients.ask("connect", address=address, count=STREAMS, resume=True)
        after = helper.ask("usage")
        figures.figure("fanout.reconnect.seconds", answer["seconds"], "s")
        figures.figure("fanout.reconnect.cpu", (after["cpu"] - before["cpu"]) / STREAMS * 1e3, "ms/client")
        share = answer["first_bytes"] / (first * STREAMS) * 100
        figures.figure("fanout.reconnect.bytes", share, "%", at_most=1.0)


def versions(figures: Figures, folder: str) -> None:
    """50,000 resources, 50 clients at once with true versions, beside a stream that is pushed to."""
    costs: dict[str, list[float]] = {"peerd": [], "parsing": []}
    ages: list[float] = []
    with (
        server("peerd", folder) as peerd,
        server("parsing", folder) as parsing,
        load(folder, nice=10) as clients,
        load(folder) as other,
    ):
        peerd[0].ask("fill", count=50_000)
        clients.ask("connect", address=peerd[1], count=1)  # learns the versions
        clients.ask("close")
        other.ask("connect", address=peerd[1], count=1)
        for _ in range(3):
            for name, (helper, address) in (("peerd", peerd), ("parsing", parsing)):
                if name == "peerd":
                    helper.ask("churn-on", rate=20)
                    time.sleep(0.5)
                    other.ask("ages")
                before = helper.ask("usage")["cpu"]
                clients.ask("connect", address=address, count=50, resume=True)
                costs[name].append((helper.ask("usage")["cpu"] - before) / 50 * 1e3)
                if name == "peerd":
                    ages += other.ask("ages")["ages"]
                    helper.ask("churn-off")
                clients.ask("close")
                time.sleep(1)
    for name, samples in costs.items():
        figures.figure(f"fanout.versions.{name}", statistics.median(samples), "ms/client", samples=samples)
    ratio = statistics.median(costs["peerd"]) / statistics.median(costs["parsing"])
    figures.figure("fanout.versions.ratio", ratio, "x", at_most=2.0)
    figures.quantile("fanout.versions.other.p99", ages, 0.99, "ms", at_most=60.0)


def cold(figures: Figures, folder: str) -> None:
    """50,000 resources, 200 clients that hold nothing: how much memory that takes."""
    with server("peerd", folder) as (helper, address), load(folder) as clients:
        helper.ask("fill", count=50_000)
        time.sleep(1)
        before: Command = helper.ask("forget-peak")
        answer = clients.ask("connect", address=address, count=200)
        after = helper.ask("usage")
        figures.figure("fanout.cold.seconds", answer["seconds"], "s")
        figures.figure("fanout.cold.answer", answer["first_bytes"] / 200 / MIB, "MiB/client")
        figures.figure("fanout.cold.rss", (after["peak"] - before["rss"]) / MIB, "MiB", at_most=300.0)


def main(parts: tuple[str, ...] = PARTS) -> int:
    """Run *parts*; 1 where a bar was missed."""
    figures = Figures("fanout")
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        for part in parts:
            globals()[part](figures, folder)
    return figures.finish()


def certificates(folder: Path) -> None:
    """A CA and a server certificate under it, where the helpers look for them."""
    bundle = load_bundle(ensure_self_signed(folder / "ca", "bench", time.time()), time.time())
    own = server_certificate(bundle, server_names("istio-system"), time.time())
    (folder / "roots.pem").write_bytes(bundle.roots_pem)
    (folder / "chain.pem").write_bytes(own.certificate_chain)
    (folder / "key.pem").write_bytes(own.private_key)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or PARTS))
