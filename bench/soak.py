"""Ten minutes of churn, slow readers, reconnects and NACKs: memory and tasks return to where they were.

Resources are replaced under new names all along, by a server whose change log is short, so that those who
dawdle fall behind it. The server's memory is compared with what it was after a first, short round of the
same, so that what is allocated once (pools, caches, interned strings) does not count, and after the allocator
gave back what is free. SOAK_SECONDS shortens it.
"""

import os
import tempfile
import time
from pathlib import Path

from bench._processes import Command, Helper
from bench.fanout import certificates, server
from bench.figures import Figures

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
WARM = min(60.0, SECONDS / 4)
CLIENTS = 20  # of each of six kinds
RESOURCES = 5_000
CHANGES = 20  # a second
MIB = 1024 * 1024


def main() -> int:
    """1 where memory or tasks stay behind."""
    figures = Figures("soak", seed=20_261_121)
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        with server("soak", folder) as (helper, address):
            helper.ask("fill", count=RESOURCES)
            idle = helper.ask("usage")
            before, _ = round_of(helper, address, folder, WARM)
            after, load = round_of(helper, address, folder, SECONDS)
    for name in ("streams", "responses", "nacks", "ended"):
        figures.figure(f"soak.{name}", load[name], name)
    figures.figure("soak.rss.before", before["rss"] / MIB, "MiB")
    figures.figure("soak.rss.growth", (after["rss"] - before["rss"]) / MIB, "MiB", at_most=16.0)
    figures.figure("soak.blocks.growth", after["blocks"] - before["blocks"], "objects", at_most=10_000.0)
    figures.figure("soak.tasks.left", after["tasks"] - idle["tasks"], "tasks", at_most=0.0)
    figures.figure("soak.files.left", after["files"] - idle["files"], "files", at_most=0.0)
    figures.figure("soak.followed.left", after["followed"], "names", at_most=0.0)
    figures.figure("soak.streams.left", after["streams"], "streams", at_most=0.0)
    return figures.finish()


def round_of(helper: Helper, address: str, folder: str, seconds: float) -> tuple[Command, Command]:
    """Load for *seconds*, then none; the server's and the load's figures."""
    load = Helper("bench._soak_clients", folder)
    try:
        load.ask("connect", address=address, count=CLIENTS)
        helper.ask("churn-on", rate=CHANGES, replace=True)
        time.sleep(seconds)
        helper.ask("churn-off")
        counts = load.ask("close")
    finally:
        load.stop()
    time.sleep(15)  # shared frames are forgotten, connections are seen to be gone
    helper.ask("collect")
    return helper.ask("usage"), counts
