"""A CA whose files may change under it (decision D42).

The directory is looked at again and again; a set of files is taken up once it has rested for a whole interval
and fits together. Whatever else is found there changes nothing: the last good CA goes on signing, and
`problem` says what is wrong.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from peerd.ca import pem
from peerd.ca.bundle import CACERTS, CRL, TLS_SECRET, BundleError, CaBundle, load_bundle
from peerd.model.clock import Clock

INTERVAL = 1.0  # seconds

_DAY = 86_400.0
_WARN_DAYS = 30

_Signature = tuple[tuple[str, int, int, int], ...]


class CaDirectory:
    """The CA in *directory*, kept current.

    Raises:
        BundleError: at the start there must be a good one.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._taken = self._seen = _signature(directory)
        self.bundle = load_bundle(directory, clock.time())
        self.problem = ""

    def look(self) -> bool:
        """Look once; True where `bundle` is another one now. Reads files, so call it off the event loop."""
        signature = _signature(self._directory)
        rested, self._seen = signature == self._seen, signature
        if signature == self._taken:
            self.problem = ""
            return False
        if not rested:
            return False
        try:
            bundle = load_bundle(self._directory, self._clock.time())
        except BundleError as error:
            self.problem = str(error)
            return False
        if _signature(self._directory) != signature:
            return False  # written while it was read
        self._taken, self.problem = signature, ""
        if bundle == self.bundle:
            return False
        self.bundle = bundle
        return True

    async def watch(
        self,
        changed: Callable[[CaBundle], None],
        faulty: Callable[[str], None],
        interval: float = INTERVAL,
        expiring: Callable[[str], None] | None = None,
    ) -> None:
        """Look every *interval* seconds until cancelled.

        Each new problem is told once to *faulty*, and once a day *expiring* hears of certificates that end
        soon.
        """
        told, warned = "", self._clock.time()
        while True:
            await asyncio.sleep(interval)
            if await asyncio.to_thread(self.look):
                changed(self.bundle)
            now = self._clock.time()
            if expiring is not None and now - warned >= _DAY:
                warned = now
                for warning in expiry_warnings(self.bundle, now):
                    expiring(warning)
            if self.problem and self.problem != told:
                faulty(f"{self.problem}; the last good CA goes on signing")
            told = self.problem


def expiry_warnings(bundle: CaBundle, now: float) -> tuple[str, ...]:
    """One line for each certificate of the CA that ends soon.

    Soon is 30 days, or a quarter of the certificate's lifetime where that is shorter.
    """
    warnings = []
    for certificate in dict.fromkeys((bundle.certificate, *bundle.intermediates, *bundle.roots)):
        end = certificate.not_valid_after_utc
        lifetime = (end - certificate.not_valid_before_utc).total_seconds()
        left = end.timestamp() - now
        if left < min(_WARN_DAYS * _DAY, lifetime / 4):
            kind = "root" if certificate in bundle.roots else "signing certificate"
            state = f"ends in {left / _DAY:.1f} days" if left > 0 else "has ended"
            warnings.append(
                f"{bundle.source}: the {kind} {pem.name_of(certificate)} {state},"
                f" on {end:%Y-%m-%d %H:%M} UTC; rotate it (`peerd certs rotate --help`)"
            )
    return tuple(warnings)


def root_expiry(bundle: CaBundle) -> float:
    """When the first of the roots ends, in Unix seconds: citadel_server_root_cert_expiry_timestamp."""
    return min(each.not_valid_after_utc.timestamp() for each in bundle.roots)


def _signature(directory: Path) -> _Signature:
    """Tells one state of the files from another: a Secret volume swaps inodes, an editor times and sizes."""
    found = []
    within = f"{directory}/"  # no Path for each: it is looked at every second
    for name in (*CACERTS, CRL, *TLS_SECRET):
        try:
            status = os.stat(within + name)  # noqa: PTH116
        except OSError:
            continue
        found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
