"""What a peerd beside istiod has of it: a certificate by CSR (decision D34), and its flags (D41)."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import structlog

from peerd.gateway.certificate import Ask, CertificateError, Identity, ask_over_grpc, request
from peerd.gateway.settings import GatewaySettings
from peerd.kubeapi.backoff import Backoff
from peerd.model.clock import Clock
from peerd.model.config import ServeConfig
from peerd.model.generated import IstiodFlags
from peerd.model.identity import SpiffeId
from peerd.transport.tls import TlsMaterial

log = structlog.get_logger("peerd.istiod")

_ROOTS_SECONDS = 10.0  # how often the mounted roots are read again
_EXPLICIT = {
    "right": IstiodFlags(True),
    "wrong": IstiodFlags(False, "--istiod-flags says that istiod's flags are wrong", "--istiod-flags"),
}


def explicit_flags(config: ServeConfig) -> IstiodFlags | None:
    """What the setting says of istiod's flags; None where its Deployment is to be read."""
    return _EXPLICIT.get(config.istiod_flags)


class IstiodIdentity:
    """peerd's own certificate, from istiod: asked for with our account's token, renewed at half its life.

    Its CA key is never seen. Roots are those that istiod distributes (`istiod_root_file` of *config*, a
    mounted ConfigMap) and those that came with the certificate.
    """

    def __init__(self, config: ServeConfig, clock: Clock, random: Random, ask: Ask = ask_over_grpc) -> None:
        self._config = config
        self._clock = clock
        self._backoff = Backoff(random)
        self._ask = ask
        self._identity: Identity | None = None
        self._roots = b""
        self._there = asyncio.Event()
        self.problem = "no certificate has been asked for yet"

    async def run(self, own: SpiffeId) -> None:
        """Keep a certificate for *own* until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._read_roots)
                if self._identity is None or self._clock.time() >= self._identity.renew_at:
                    self._identity = await request(self._applicant(own), self._ask)
                    log.info("certified by istiod", identity=str(own), until=self._identity.not_after)
            except (CertificateError, OSError) as error:
                self.problem = str(error)
                wait = self._backoff.next()
                log.warning("not_certified_by_istiod", reason=self.problem, retry_seconds=round(wait, 1))
            else:
                self.problem, wait = "", _ROOTS_SECONDS
                self._backoff.reset()
                self._there.set()
            await asyncio.sleep(wait)

    async def certified(self) -> None:
        """Wait for the first certificate."""
        await self._there.wait()

    def tls(self, trust_domain: str, other_roots: Callable[[], Mapping[str, bytes]] = dict) -> "IstiodTls":
        """A TlsSource of it, once `certified`; *other_roots* by trust domain are trusted besides."""
        return IstiodTls(self, trust_domain, other_roots)

    def material(self, trust_domain: str, other_roots: Mapping[str, bytes]) -> TlsMaterial:
        """The material of the present certificate."""
        identity = self._identity
        assert identity is not None  # noqa: S101 (nobody asks before `certified`)
        roots = b"\n".join(dict.fromkeys((self._roots, identity.roots.encode())))
        return TlsMaterial(
            identity.chain.encode(), identity.key.encode(), roots, {**other_roots, trust_domain: roots}
        )

    def _read_roots(self) -> None:
        self._roots = Path(self._config.istiod_root_file).read_bytes()

    def _applicant(self, own: SpiffeId) -> GatewaySettings:
        config = self._config
        revision = f"-{config.revision}" if config.revision else ""
        return GatewaySettings(
            namespace=own.namespace,
            name=own.service_account,
            directory="",
            xds="",
            ca=config.istiod_addr or f"istiod{revision}.{config.system_namespace}.svc:15012",
            peers="",
            roots_file=config.istiod_root_file,
            token_file=config.istiod_token_file,
            control_plane=own,
            trust_domain=own.trust_domain,
            cluster_id=config.cluster_id,
        )


class IstiodTls:
    """`TlsSource`: the same material until something of it changes."""

    def __init__(
        self, identity: IstiodIdentity, trust_domain: str, other_roots: Callable[[], Mapping[str, bytes]]
    ) -> None:
        self._identity = identity
        self._trust_domain = trust_domain
        self._other_roots = other_roots
        self._material: TlsMaterial | None = None

    def current(self) -> TlsMaterial:
        """`TlsSource.current`."""
        found = self._identity.material(self._trust_domain, self._other_roots())
        if self._material is None or found != self._material:
            self._material = found
        return self._material
