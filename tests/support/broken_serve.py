"""`peerd serve` with one thing broken, started by `peerd demo --serve-command "… broken_serve.py FAULT"`.

Each fault patches one function, in the cluster it concerns, and leaves everything else as it is shipped.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 12  # seconds: two processes start within them on a busy machine


def drop_frame(cluster: str) -> None:
    """East's ADS loses every Address message about reviews after the first one."""
    if cluster != "east":
        return
    from peerd.transport.grpcaio import GrpcServerStream

    real = GrpcServerStream.send
    seen: set[int] = set()

    async def send(self: GrpcServerStream, message: bytes) -> None:
        about_reviews = b"istio.workload.Address" in message and b"reviews.books.mesh.internal" in message
        if about_reviews and id(self) in seen:
            return
        if about_reviews:
            seen.add(id(self))
        await real(self, message)

    GrpcServerStream.send = send


def freeze_importer(cluster: str) -> None:
    """East's importer takes no service once the first sync is complete."""
    if cluster != "east":
        return
    from peerd.model.types import FEDERATED_SERVICE
    from peerd.peering.importer import Importer

    real = Importer.take

    def take(self, key, type_url, puts):
        if type_url == FEDERATED_SERVICE and self.counts(key).synced:
            return {}
        return real(self, key, type_url, puts)

    Importer.take = take


def disable_resume(cluster: str) -> None:
    """East offers nothing to resume from when it dials again."""
    if cluster != "east":
        return
    from peerd.peering.importer import Held, Importer

    Importer.held = lambda self, key: Held("", {})


def ignore_edits(cluster: str) -> None:
    """West's source sees every file as it was when it was first listed."""
    if cluster != "west":
        return
    from peerd.sources.directory import DirectorySource

    real = DirectorySource._scan
    first: dict[str, object] = {}

    def scan(self, sink):
        if "files" not in first:
            first["files"] = real(self, sink)
        return dict(first["files"])

    DirectorySource._scan = scan


def nobody_answers(cluster: str) -> None:
    """West's gateway is told of no endpoint."""
    if cluster != "west":
        return
    import msgspec

    from peerd.encode import envoy

    real = envoy.encode_endpoints
    envoy.encode_endpoints = lambda found: real(msgspec.structs.replace(found, places=()))


def no_names(cluster: str) -> None:
    """East's gateway is told of no name that could be called."""
    if cluster != "east":
        return
    from peerd.app.gateways import Gateways
    from peerd.model.types import CLUSTER

    real = Gateways.resources
    Gateways.resources = lambda self, commit: (
        each for each in real(self, commit) if each.type_url != CLUSTER
    )


def no_listener(cluster: str) -> None:
    """West configures nothing for gateways."""
    if cluster == "west":
        _replace("--gateway-addr", "127.0.0.1:0")


def wrong_ca(cluster: str) -> None:
    """West signs with an intermediate of another root."""
    if cluster != "west":
        return
    from peerd.ca import authority

    directory = _flag("--state-dir").with_name("other-ca")
    if not directory.exists():
        root = authority.make_root("somebody else", time.time())
        authority.write_new(directory, authority.make_cluster_ca(root, cluster, time.time()))
    _replace("--ca-dir", str(directory))


def wrong_network(cluster: str) -> None:
    """West's system namespace carries another network than east's Gateway says."""
    if cluster != "west":
        return
    path = Path(str(_flag("--source")).removeprefix("dir:")) / "cluster.yaml"
    label = "topology.istio.io/network: "
    path.write_text(path.read_text().replace(f"{label}west-net", f"{label}typo-net"))


def dead_peer(cluster: str) -> None:
    """West's process ends at once."""
    if cluster == "west":
        sys.exit(3)


def silent_peer(cluster: str) -> None:
    """West's peer port is somebody else's, who never answers."""
    if cluster == "west":
        _replace("--peer-addr", "127.0.0.1:0")


FAULTS = (
    drop_frame,
    freeze_importer,
    disable_resume,
    ignore_edits,
    nobody_answers,
    no_names,
    no_listener,
    wrong_ca,
    wrong_network,
    dead_peer,
    silent_peer,
)


def _flag(name: str) -> Path:
    (value,) = [each.partition("=")[2] for each in sys.argv if each.startswith(f"{name}=")]
    return Path(value)


def _replace(name: str, value: str) -> None:
    sys.argv = [f"{name}={value}" if each.startswith(f"{name}=") else each for each in sys.argv]


def main() -> None:
    faults = {fault.__name__.replace("_", "-"): fault for fault in FAULTS}
    fault = faults[sys.argv.pop(1)]
    fault(str(_flag("--cluster-id")))
    from peerd.cli.main import main as peerd

    peerd(["serve", *sys.argv[1:]], prog_name="peerd")


def demo_with(fault: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `peerd demo` with one fault; it has `PATIENCE` seconds for each step."""
    command = [sys.executable, "-m", "peerd.cli.main", "demo", "--patience", str(PATIENCE), *options]
    if fault:
        command += ["--serve-command", f"{sys.executable} {Path(__file__)} {fault}"]
    environment = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


if __name__ == "__main__":
    main()
