"""One peerd, wired: objects in, discovery out, peers beside it."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from peerd.app.access import DebugAccess
from peerd.app.allocator import Allocator
from peerd.app.authority import Authority, follow, from_files
from peerd.app.callers import authenticator
from peerd.app.federation import Federation
from peerd.app.gateways import Gateways
from peerd.app.intake import Intake, LineageWatch
from peerd.app.listeners import Listeners
from peerd.app.own_cluster import OwnCluster
from peerd.app.parts import Parts
from peerd.app.picture import stream_views
from peerd.app.pipeline import Pipeline
from peerd.app.problems import DERIVED, Problems
from peerd.app.proof import Proof
from peerd.app.settings import settings_of
from peerd.app.views import Views, ca_view
from peerd.app.withholding import Waits, Withholding
from peerd.ca.bundle import CaBundle
from peerd.derive.allocation import choose
from peerd.derive.commit import Commit
from peerd.derive.world import World
from peerd.model.changes import Change
from peerd.model.config import ServeConfig
from peerd.model.identity import SpiffeId
from peerd.model.types import ADDRESS, AUTHORIZATION, CREATE_CERTIFICATE_METHOD, DELTA_METHOD
from peerd.observe.snapshot import Snapshot
from peerd.publish.allocations import Allocations
from peerd.publish.takeovers import RecordedTakeovers
from peerd.resources.store import ResourceStore
from peerd.serve.ads import AdsService, ztunnel_rules
from peerd.serve.authentication import loopback
from peerd.serve.authorisation import Authorisation
from peerd.serve.certificates import CertificateService
from peerd.serve.connections import ConnectionRegistry
from peerd.serve.debug_types import DebugTypes
from peerd.serve.other_roots import OtherRoots
from peerd.serve.pods import PodIndex
from peerd.state.directory import prepare
from peerd.state.lineage import lineage, replica
from peerd.state.lock import StateLock
from peerd.state.table import Table

if TYPE_CHECKING:
    from peerd.app.generation import Generation
    from peerd.app.istiod import IstiodIdentity

log = structlog.get_logger("peerd")

_LOOK = 1.0  # seconds between two looks which peers have spoken


class Peerd:
    """The control plane of one cluster: `start`, wait for `finished` (it does not, unless it fails), `stop`.

    Raises:
        ConfigError: a setting cannot be used.
        StateError: the state directory cannot be used.
    """

    def __init__(self, config: ServeConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._started_at = parts.clock.time()
        self._not_ready = "the sources have not been read yet"
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners = Listeners(config, parts.network)

        state = Path(config.state_dir)
        prepare(state)
        self._lock = StateLock(state)
        self.lineage = parts.kube.lineage if parts.kube is not None else lineage(state)
        self._waits = Waits()
        self.instance = f"{parts.random.getrandbits(48):012x}"
        self._table = Table(state / "allocations", parts.disk)
        self._takeovers = Table(state / "takeovers", parts.disk)
        self._own_cluster = OwnCluster(config, parts, self._emit)
        self._generation = self._own_cluster.generation
        self._publishing = publishing = self._own_cluster.publishing
        self._allocator: Allocator | Generation = self._generation or Allocator(
            Allocations(self._table, choose, parts.clock),
            RecordedTakeovers(self._takeovers),
            lambda: self.pipeline.submit(()),
        )

        self.problems = Problems(None if publishing is None else publishing.problem)
        self.objects = Intake(self.problems)
        self.pods = PodIndex()
        self.other_roots = OtherRoots(settings_of(config))
        self.registry = ConnectionRegistry()
        self.gateways = Gateways(lambda: self.trust_domain, active=bool(config.gateway_addr))
        self.store = ResourceStore((AUTHORIZATION, ADDRESS, *self.gateways.types), self.instance)
        self._world = World(settings_of(config))
        self.pipeline = Pipeline(
            self._world, self.store, parts.clock, self._committed, self.gateways.resources
        )
        self.federation = Federation(
            config,
            parts,
            lineage=self.lineage,
            replica=replica(state),
            epoch=self.instance,
            emit=self.pipeline.submit,
            derived=self.pipeline.derived,
            registry=self.registry,
            peer_changed=None if publishing is None else publishing.peer_changed,
        )
        if publishing is not None:
            publishing.follow(self.federation.table)

        # Beside istiod CA and roots are istiod's (D33, D34).
        self._beside = config.mode == "beside"
        self._ca = None if self._beside else self._authority()
        self._proof = Proof(self._ca, self._istiod(), parts.clock)
        self._roots = (
            None
            if parts.kube is None or self._beside
            else parts.kube.roots(parts.clock, parts.random, self._own_cluster.permit)
        )
        self._authorisation = Authorisation(config.trusted_ztunnel_accounts, config.system_namespace)
        self._authenticate = authenticator(config, parts.kube, parts.clock, lambda: self.trust_domain)
        self._views = Views(self.snapshot, self.store, lambda: self._not_ready)
        self.ads = AdsService(
            self.store,
            ztunnel_rules(self._withholding()) | self.gateways.rules,
            authenticate=self._authenticate,
            allowed=self._authorisation.allowed,
            refusal=self._authorisation.refusal,
            registry=self.registry,
            debug=DebugTypes(self.registry, f"peerd-{self.instance}", self._views.page),
            clock=parts.clock,
            check=self.gateways.check,
            ready=lambda: self._not_ready,
        )
        self.certificates = CertificateService(
            self._bundle,
            self._authenticate,
            self.pods,
            config.trusted_ztunnel_accounts,
            parts.clock,
        )

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> dict[str, str]:
        """Bind every address and begin; returns what was bound, by flag.

        Raises:
            ConfigError: an address is not to be had.
        """
        self.pipeline.submit(self._allocator.restore())
        self.pipeline.submit(self.federation.restore())
        self._begin(self.pipeline.run())
        self._begin(self._parts.source.run(self._intake()))
        if self._ca is not None:
            self._begin(follow(self._ca, self._parts.clock, self._ca_changed))
        self._begin(self._own_cluster.write())
        self._begin(self._own_cluster.follow_istiod())
        if self._roots is not None:
            self._begin(self._roots.run())
        await self.ads.start()
        access = DebugAccess(self._authenticate, self._authorisation)
        bound = {
            "--http-addr": await self._views.serve(self._config.http_addr, access),
            "--peer-addr": self._config.peer_addr,
        }
        if not self._beside:
            bound |= await self._listeners.discovery(
                {**self.ads.handlers, CREATE_CERTIFICATE_METHOD: self.certificates.handle},
                self.ads.handlers_for(loopback),
                self._bundle,
                self._parts.clock,
            )
        self._begin(self._become_ready())
        log.info("started", cluster=self._config.cluster_id, lineage=self.lineage, **_named(bound))
        return bound

    async def ready(self) -> None:
        """Wait until both first answers can be given."""
        await self._ready.wait()

    async def derived(self) -> None:
        """Wait until all that came is derived, with addresses that the disk has yet to take."""
        await self.pipeline.quiet()
        while await self._allocator.recorded():  # and what was wanted meanwhile
            await self.pipeline.quiet()

    async def finished(self) -> None:
        """Wait until a part fails, and raise what it failed with."""
        # All of them: one may have failed while others were still being started.
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def stop(self, grace: float) -> None:
        """Refuse what is new, send streams elsewhere, write what is not written; about *grace* seconds."""
        self._not_ready = "stopping"
        await self.federation.stop()
        await self.ads.drain(grace / 4)
        await self._listeners.close(grace / 2)
        await self.ads.close()
        await self._views.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.certificates.close()
        await self._allocator.close()
        await self.federation.close()
        self._table.close()
        self._takeovers.close()
        if self._publishing is not None:
            await self._publishing.close()
        if self._parts.kube is not None:
            await self._parts.kube.transport.close()
        self._lock.close()

    def _begin(self, part: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(part))

    # -- objects in --------------------------------------------------------------------------------------

    def _intake(self) -> Intake:
        intake = self.objects
        intake.followers += [self.pods.apply, self.other_roots.apply, self.gateways.places.apply]
        if self._parts.kube is not None:
            intake.followers.append(LineageWatch(self.problems, self._config.system_namespace, self.lineage))
        if self._roots is not None:
            intake.followers.append(self._roots.namespaces)
        if self._generation is not None:
            intake.followers.append(self._generation.users)
            intake.own_followers.append(self._generation.own)
        if self._publishing is not None:
            intake.followers.append(self._publishing.applied)
        departures = self.federation.departures(self.pipeline.submit)
        self._begin(departures.run())
        intake.followers.append(departures)
        return intake

    async def _committed(self, commit: Commit) -> Sequence[Change]:
        """What follows from one revision of derivation; returns what derivation must hear at once."""
        for key, diagnostic in commit.diagnostics:
            self.problems.replace(f"{DERIVED}{key}", () if diagnostic is None else (diagnostic,))
        self.federation.committed(commit)
        self.gateways.committed(commit)
        if self._generation is not None:
            self._generation.committed(commit)
        if self._publishing is not None:
            self._publishing.committed(commit)
        self._allocator.want(commit.wanted_hosts)
        self._allocator.remember(commit.takeovers)
        follow_up = await self._allocator.settle()
        self.problems.replace("allocator", self._allocator.diagnostics)
        return follow_up

    async def _become_ready(self) -> None:
        await self.objects.complete.wait()
        self._not_ready = "addresses of global names are not recorded yet"
        await self.derived()
        self.problems.complete()
        self.pods.synced = True
        self.federation.follow_gateways()
        # What was restored of peers that are no longer linked is withdrawn before anybody is served.
        await self._served()
        self._not_ready = ""
        self._ready.set()
        log.info("ready", addresses=len(self.store.collection(ADDRESS)))
        self._begin(self._proof.run(self._own_identity()))
        self._begin(self._own_cluster.settle(self.federation, self.problems, self._proof))
        if self._publishing is not None:
            self._publishing.settle()
        await self._serve_gateways()
        await self._begin_peering()
        await self._follow_syncs()

    async def _follow_syncs(self) -> None:
        retained = False
        while True:  # peers sync, expire, vanish: a look is simplest
            await self.federation.settle(self._served)
            self._waits.look(self.ads.withheld(), self.federation.awaited())
            if not retained and not self.federation.unsynced():
                # All that is wanted has its address: what nobody wants is freed.
                self._allocator.retain_wanted()
                self.pipeline.submit(())
                retained = True
            await asyncio.sleep(_LOOK)

    async def _served(self) -> None:
        await self.derived()
        await self.ads.window.published()

    async def _begin_peering(self) -> None:
        await asyncio.to_thread(self._parts.network.prepare_peers)
        info = self.federation.info  # as it is now: it may have changed meanwhile
        assert info is not None  # noqa: S101 (the first commit always carries it)
        own = self._own_identity()
        tls = await self._proof.tls(own, self.other_roots.current)
        handlers = self.federation.begin(own, info, tls)
        if self._publishing is not None:
            self._begin(self._publishing.probe(tls))
        bound = await self._listeners.peers(handlers, tls)
        log.info("peering", identity=str(own), peer_addr=bound, network=info.network)

    async def _serve_gateways(self) -> None:
        if not self._config.gateway_addr:
            return
        await asyncio.to_thread(self._parts.network.prepare_peers)
        own = self._own_identity()
        # No other trust domain's roots: their gateways are not ours (decision D37).
        tls = await self._proof.tls(own)
        handlers = self.ads.handlers_for(self.gateways.authenticate)
        bound = await self._listeners.gateways({DELTA_METHOD: handlers[DELTA_METHOD]}, tls)
        log.info("serving gateways", identity=str(own), gateway_addr=bound)

    def _own_identity(self) -> SpiffeId:
        return SpiffeId(self.trust_domain, self._config.system_namespace, self._config.peer_service_account)

    def _emit(self, changes: Sequence[Change]) -> None:
        self.pipeline.submit(changes)

    # -- discovery out -----------------------------------------------------------------------------------

    @property
    def trust_domain(self) -> str:
        """The setting's, else the mesh configuration's, else Istio's default."""
        info = self.federation.info
        return self._config.trust_domain or (info.trust_domain if info is not None else "cluster.local")

    def _bundle(self) -> CaBundle:
        assert self._ca is not None  # noqa: S101 (nothing that is served beside istiod asks)
        return self._ca.bundle

    def _istiod(self) -> "IstiodIdentity | None":
        if not self._beside:
            return None
        from peerd.app.istiod import IstiodIdentity  # only there

        return IstiodIdentity(self._config, self._parts.clock, self._parts.random)

    def _authority(self) -> Authority:
        kube = self._parts.kube
        if kube is not None and kube.ca is not None:
            return kube.ca
        return from_files(self._config, self._parts.clock)

    def _ca_changed(self, bundle: CaBundle) -> None:
        if self._roots is not None:
            self._roots.roots(bundle)

    def _withholding(self) -> Withholding:
        addresses = self.store.collection(ADDRESS)
        return Withholding(
            self._config.cluster_id,
            "cluster.local",
            global_domains=self.federation.domains,
            unsynced=self.federation.unsynced,
            forgotten=self.federation.forgotten,
            present=lambda name: addresses.get(name) is not None,
            world=self._world,
        )

    # -- what is shown -----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Everything at this moment."""
        info, registry = self.federation.info, self.registry
        return Snapshot(
            cluster=self._config.cluster_id,
            network=info.network if info is not None else "",
            trust_domain=self.trust_domain,
            lineage=self.lineage,
            instance=self.instance,
            revision=self.store.revision,
            started_at=self._started_at,
            taken_at=self._parts.clock.time(),
            not_ready=self._not_ready,
            streams=stream_views(registry),
            peers=self.federation.table.snapshot(),
            diagnostics=self.problems.present(),
            resources={each: len(self.store.collection(each)) for each in self.store.types},
            pushes=dict(registry.pushes),
            convergence=registry.convergence.view(),
            rejects=dict(registry.rejects),
            certificates_issued=self.certificates.counts["issued"],
            ca=None if self._ca is None else ca_view(self.certificates.counts, self._ca.bundle),
            publishing=None if self._publishing is None else self._publishing.view(),
            istiod=self._own_cluster.flags,
            withheld=self.ads.withheld(),
            withheld_for=self._waits.peers,
        )


def _named(bound: dict[str, str]) -> dict[str, str]:
    return {flag.removeprefix("--").replace("-", "_"): address for flag, address in bound.items()}
