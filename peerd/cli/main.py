"""The `peerd` command: subcommands are imported when they are called, so that `--help` is quick."""

import importlib

import click

from peerd import __version__

_COMMANDS = {
    "serve": ("peerd.cli.serve", "serve", "Run the control plane of one cluster."),
    "demo": ("peerd.cli.demo.command", "demo", "Run two whole clusters on this machine and watch them peer."),
    "gateway": (
        "peerd.cli.gateway",
        "gateway",
        "Give an east-west gateway's Envoy its identity, and drain it.",
    ),
    "uninstall": ("peerd.cli.uninstall", "uninstall", "Take back what peerd wrote into a cluster."),
    "certs": ("peerd.cli.certs", "certs", "Make, show, check and rotate the CAs of clusters, offline."),
}


class _Commands(click.Group):
    """A group that knows its commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)  # noqa: S101 (our own table)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, _, help_text) in _COMMANDS.items()])


_EXAMPLES = """\b
Try it on this machine:
  peerd demo
Run one cluster from a directory of manifests:
  peerd certs root --dir ./certs
  peerd certs cluster east --root ./certs --dir ./certs
  peerd serve --source dir:./manifests --cluster-id east --ca-dir ./certs/east --state-dir ./state
"""


@click.command(cls=_Commands, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="peerd")
def main() -> None:
    """Istio ambient control planes that peer: one per cluster, no shared credentials."""


if __name__ == "__main__":
    main()
