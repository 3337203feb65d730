"""What a peerd that lives in Kubernetes has of its own API server: a connection, a lineage, a CA, roots."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import structlog

from peerd.ca.bundle import BundleError
from peerd.kubeapi.backoff import Backoff
from peerd.kubeapi.base import ApiTransport, ApiUnreachableError
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.lists import GarbledError
from peerd.kubeapi.rights import Rights, RightsTransport
from peerd.model.clock import Clock
from peerd.model.config import ConfigError, ServeConfig
from peerd.model.generated import IstiodFlags
from peerd.publish.ca_secret import CaSecret, open_ca
from peerd.publish.permit import Always, Permit
from peerd.publish.root_config_maps import RootConfigMaps
from peerd.sources.kubernetes import KubernetesSource

log = structlog.get_logger("peerd.kube")


@dataclass(frozen=True, slots=True)
class Kube:
    """One cluster's API server, once it has answered.

    `lineage` is the uid of the system Namespace (decision D18). `ca` is None where `--ca-dir` has one, and
    beside istiod. `rights` knows what was refused on `transport` for want of a right.
    """

    transport: ApiTransport
    continuity: Continuity
    lineage: str
    ca: CaSecret | None
    rights: Rights

    def source(self, config: ServeConfig, random: Random) -> KubernetesSource:
        """The cluster's objects."""
        return KubernetesSource(
            self.transport,
            system_namespace=config.system_namespace,
            revision=config.revision,
            random=random,
        )

    async def istiod(
        self, config: ServeConfig, random: Random, changed: Callable[[IstiodFlags], None]
    ) -> None:
        """Follow the flags of the istiod beside us until cancelled."""
        from peerd.sources.istiod import IstiodWatch  # only there

        await IstiodWatch(
            self.transport,
            self.continuity,
            random,
            namespace=config.system_namespace,
            revision=config.revision,
            changed=changed,
        ).run()

    def roots(self, clock: Clock, random: Random, permit: Permit | None = None) -> RootConfigMaps:
        """The ConfigMaps that carry the roots."""
        return RootConfigMaps(
            self.transport,
            continuity=self.continuity,
            clock=clock,
            random=random,
            permit=permit or Always(),
        )


async def connect(config: ServeConfig, clock: Clock, random: Random) -> Kube:
    """Find the API server and wait until it answers.

    Raises:
        ConfigError: there are no credentials, or a Secret holds a CA that cannot be used.
    """
    # Late: they cost half a second, which whoever reads a directory need not wait.
    from peerd.kubeapi.credentials import Credentials, CredentialsError
    from peerd.kubeapi.http import HttpTransport

    credentials = Credentials(kubeconfig_of(config.source), config.kube_context)
    try:
        await credentials.load()
    except CredentialsError as error:
        raise ConfigError(
            "--source",
            config.source,
            str(error),
            "run in a Pod with a service account, or write kube:PATH with a kubeconfig",
        ) from error
    return await join(HttpTransport(credentials), config, clock, random)


async def join(transport: ApiTransport, config: ServeConfig, clock: Clock, random: Random) -> Kube:
    """`connect` from the transport on."""
    rights = Rights(clock)
    transport = RightsTransport(transport, rights)
    continuity = Continuity(transport, config.system_namespace)
    backoff = Backoff(random)
    while True:
        try:
            look = await continuity.look()
            if look.lineage:
                ca = None
                if not config.ca_dir and config.mode != "beside":  # istiod's key is its own (D34)
                    ca = await open_ca(
                        transport,
                        organization=config.cluster_id,
                        continuity=continuity,
                        clock=clock,
                        random=random,
                    )
                return Kube(transport, continuity, look.lineage, ca, rights)
            problem, wait = f"there is no Namespace {config.system_namespace}", backoff.next()
        except BundleError as error:
            raise ConfigError(
                "--source", config.source, str(error), "mend the Secret, or give --ca-dir"
            ) from error
        except ApiError as error:
            problem, wait = str(error), backoff.next(error.retry_after)
        except (ApiUnreachableError, GarbledError) as error:
            problem, wait = str(error), backoff.next()
        log.warning("api_server_not_ready", reason=problem, retry_seconds=round(wait, 1))
        await asyncio.sleep(wait)


def kubeconfig_of(source: str) -> str:
    """The file that `kube:PATH` names; empty for `kube`."""
    return source.partition(":")[2]
