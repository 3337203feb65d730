"""Where the CA comes from, and what its owner is told about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from peerd.ca.bundle import BundleError, CaBundle
from peerd.ca.rotation import CaDirectory, expiry_warnings
from peerd.ca.self_signed import ensure_self_signed
from peerd.model.clock import Clock
from peerd.model.config import ConfigError, ServeConfig

log = structlog.get_logger("peerd")


class Authority(Protocol):
    """A CA that is kept current: `bundle` signs now, `problem` says why a newer one is not taken."""

    bundle: CaBundle
    problem: str

    async def watch(
        self,
        changed: Callable[[CaBundle], None],
        faulty: Callable[[str], None],
        *,
        expiring: Callable[[str], None] | None = None,
    ) -> None:
        """Look until cancelled, and tell."""
        ...


def from_files(config: ServeConfig, clock: Clock) -> Authority:
    """The CA of `--ca-dir`, else a self-signed one in the state directory.

    Raises:
        ConfigError: there is none that can sign.
    """
    try:
        if config.ca_dir:
            return CaDirectory(Path(config.ca_dir), clock)
        own = ensure_self_signed(Path(config.state_dir) / "ca", config.cluster_id, clock.time())
        return CaDirectory(own, clock)
    except BundleError as error:
        raise ConfigError(
            "--ca-dir", config.ca_dir, str(error), "give a directory made by `peerd certs cluster`"
        ) from error


async def follow(authority: Authority, clock: Clock, changed: Callable[[CaBundle], None]) -> None:
    """Watch *authority* until cancelled, and call *changed*, now and with each change.

    Says what ends soon, now and daily, and what cannot be taken up.
    """

    def tell(bundle: CaBundle) -> None:
        warn_of_expiry(bundle, clock)
        changed(bundle)

    tell(authority.bundle)
    await authority.watch(tell, _faulty, expiring=_expiring)


def warn_of_expiry(bundle: CaBundle, clock: Clock) -> None:
    """Log each certificate of *bundle* that ends soon."""
    for warning in expiry_warnings(bundle, clock.time()):
        _expiring(warning)


def _expiring(warning: str) -> None:
    log.warning("certificate_ends_soon", problem=warning)


def _faulty(reason: str) -> None:
    log.error("ca_not_followed", reason=reason)
