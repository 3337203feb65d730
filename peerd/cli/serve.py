"""`peerd serve`: settings in, the composition root run, one clear sentence where that cannot be."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from peerd.cli.config import options, resolve
from peerd.model.config import ConfigError

EXAMPLE = """
    \b
    Example, one cluster from a directory of manifests:
      peerd certs root --dir ./certs
      peerd certs cluster east --root ./certs --dir ./certs
      peerd serve --source dir:./manifests --cluster-id east --ca-dir ./certs/east --state-dir ./state
    With a ztunnel's token keys, and a network for manifests without the label:
      peerd serve --source dir:./manifests --cluster-id east --ca-dir ./certs/east \\
        --state-dir ./state --jwks-file ./jwks.json --network east-net
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options
def serve(config_file: Path | None, **flags: str | None) -> None:
    """Run the control plane of one cluster."""
    try:
        config = resolve(flags, os.environ, config_file)
    except ConfigError as error:
        fail(str(error))
    # Late, so that a wrong flag is answered at once and `--help` imports no server.
    with _quick_start():
        from peerd import app
        from peerd.cli import logging
    from peerd.sources.base import SourceError
    from peerd.state.errors import StateError

    logging.configure(config.log_format, config.log_level)
    try:
        sys.exit(app.run(config))
    except (ConfigError, StateError, SourceError) as error:
        fail(str(error))


serve.help = f"{serve.help}\n{EXAMPLE}"


@contextlib.contextmanager
def _quick_start() -> Iterator[None]:
    """Import structlog without rich, which it would use for tracebacks that nobody asked for: 40 ms.

    The collector rests as well, until the first sync is done (peerd/app/run.py): nothing is garbage yet.
    """
    gc.disable()
    hidden = "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` fail
    try:
        import structlog  # noqa: F401 (for its side effect: it looks for rich once)

        yield
    finally:
        if hidden:
            del sys.modules["rich"]


def fail(message: str) -> None:
    """Print one error line and exit with code 2, the code of wrong usage."""
    click.echo(f"peerd: error: {message}", err=True)
    sys.exit(2)
