"""`peerd certs`: roots and cluster CAs, made, shown, checked and rotated without a network."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from peerd.ca import authority, describe, rotate
from peerd.ca.authority import AlreadyThereError
from peerd.ca.bundle import BundleError, load_bundle

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.group(
    epilog="""\b
Two clusters under one root:
  peerd certs root --dir certs
  peerd certs cluster east west --root certs --dir certs
  peerd certs verify certs/east certs/west
  peerd serve --ca-dir certs/east ...
"""
)
def certs() -> None:
    """Make, show, check and rotate the CAs of clusters. Everything works offline."""


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """What went wrong becomes one line and exit code 1, never a traceback."""

    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (BundleError, AlreadyThereError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
