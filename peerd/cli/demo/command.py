"""`peerd demo`: run the story, exit with 0 when every step happened."""

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from peerd.ca.bundle import BundleError
from peerd.cli.demo.errors import DemoError
from peerd.cli.demo.show import Show
from peerd.cli.demo.story import Story

_EXAMPLE = """
    \b
    Examples:
      peerd demo
      peerd demo --keep      # leave both clusters running and print how to talk to them
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave both clusters running and print how to talk to them.")
@click.option(
    "--serve-command",
    metavar="CMD",
    default="",
    help="Start this in place of `peerd serve`; it is given the same flags. For tests that break something.",
)
@click.option("--patience", default=20.0, show_default=True, help="Seconds that one step may take.")
def demo(*, keep: bool, serve_command: str, patience: float) -> None:
    """Run two whole clusters on this machine, peered, and show what a ztunnel is told."""
    command = shlex.split(serve_command) or [sys.executable, "-m", "peerd.cli.main", "serve"]
    show = Show(Console(highlight=False))
    root = Path(tempfile.mkdtemp(prefix="peerd-demo-"))
    try:
        code = asyncio.run(_run(Story(root, command, show, patience), root, show, keep=keep))
    except KeyboardInterrupt:
        code = 130
    except asyncio.CancelledError:  # SIGTERM
        code = 143
    if code > 1 or (code == 0 and not keep):
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(code)


demo.help = f"{demo.help}\n{_EXAMPLE}"


async def _run(story: Story, root: Path, show: Show, *, keep: bool) -> int:
    show.title(
        "peerd demo",
        "Two Kubernetes clusters, east and west, each with a control plane of its own.\n"
        "They exchange only the services that are labelled solo.io/service-scope=global.",
    )
    started = time.monotonic()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (asyncio.run gave us one)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    kept = False
    try:
        await story.tell()
        kept = keep
    except (DemoError, BundleError) as error:
        show.failed(str(error))
        show.note(f"manifests, certificates and logs are in {root}")
        return 1
    finally:
        await story.close(keep=kept)
    show.ended(time.monotonic() - started)
    if keep:
        _explain(story, root, show)
    return 0


def _explain(story: Story, root: Path, show: Show) -> None:
    """How to talk to what was left running."""
    show.step("Both clusters go on running")
    for cluster in story.clusters:
        ports = cluster.ports
        token, operator = root / cluster.name / "ztunnel-token", root / cluster.name / "operator-token"
        for path, content in ((token, cluster.token()), (operator, cluster.operator_token())):
            path.touch(0o600)
            path.write_text(content)
        show.note(f"{cluster.name}: edit its manifests, watch its peers, point a real ztunnel at it")
        show.command(f"$EDITOR {cluster.manifests}/books/catalog.yaml")
        show.command(
            f'curl -s -H "Authorization: Bearer $(cat {operator})" http://127.0.0.1:{ports["http"]}/debug/peers'
        )
        show.command(
            f"XDS_ADDRESS=https://localhost:{ports['xds']} CA_ADDRESS=https://localhost:{ports['xds']} "
            f"XDS_ROOT_CA={root}/certs/root-cert.pem CA_ROOT_CA={root}/certs/root-cert.pem "
            f"AUTH_TOKEN={token} NETWORK={cluster.name}-net ISTIO_META_CLUSTER_ID={cluster.name} "
            f"NODE_NAME={cluster.name}-node-1 POD_NAME=ztunnel-1 POD_NAMESPACE=istio-system "
            "SERVICE_ACCOUNT=ztunnel INSTANCE_IP=10.244.0.11"
        )
        show.command(f"tail -f {cluster.log}")
    show.note("to end it all:")
    pids = " ".join(str(cluster.pid) for cluster in story.clusters)
    show.command(f"kill {pids} && rm -r {root}")
