"""Local names that peers answer to as well: who asked, and what outlives the Service (decision D23)."""

import msgspec

from peerd.derive import scope
from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.global_names import Contribution, GlobalName
from peerd.derive.hostnames import Hostnames
from peerd.derive.imports import Import, contribution_of
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.scope import Reach
from peerd.derive.scoped import Scoped
from peerd.derive.services import SERVICE, hostname
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Takeover
from peerd.model.generated import Generate
from peerd.model.mesh import Settings
from peerd.model.record import Record
from peerd.model.sharing import shared


class Asked(Record, frozen=True):
    """Whether a local name is to lead to remote endpoints too (decision D23).

    `own`: our Service or Namespace asked; `by_rule`: by a mesh rule; `open`: the Gateway's word may decide.
    """

    own: bool
    by_rule: bool = False
    open: bool = True


class Takeovers:
    """`contributions` are what peers say of local names that are taken over here, keyed as *imports*."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        namespaces: Input[str, NamespaceFacts],
        hostnames: Hostnames,
        scoped: Collection[str, Scoped],
        imports: Collection[tuple[str, str], Import],
        recorded: Input[str, Takeover],
    ) -> None:
        self._settings = settings
        self._beside = settings.generate is Generate.BESIDE
        self._namespaces = namespaces
        self._hostnames = hostnames
        self._scoped = scoped
        self._recorded = recorded
        # Under `<namespace>/<name>` of the Service.
        self.asked = engine.memo("takeovers", self._asked)
        self.contributions = engine.derive("contributions to local names", imports, self._local_contribution)
        self.diagnostics = engine.derive_many("takeover diagnostics", imports, self._takeover_diagnostics)

    def to_record(self, engine: Engine, names: Collection[str, GlobalName]) -> Collection[str, Takeover]:
        """What is to be recorded; *names* hold a local name while a peer has it."""
        return engine.derive_many("takeovers to record", names, self._to_record)

    def local_host(self, name: str, namespace: str) -> str:
        """What a service is called inside our own cluster."""
        return hostname(name, namespace, self._settings.domain)

    def _takes_over(self, ctx: Context, name: str, found: Import) -> bool:
        """Whether an import, service *name*, also answers to its local name here (decisions D23, D25).

        Never another tenant's: what is called so there is another service.
        """
        service = found.service
        if not found.same_names or service.local_host != self.local_host(service.name, service.namespace):
            return False
        asked = ctx.ask(self.asked, name)
        return asked.own or (asked.open and found.may_take_over and service.takeover)

    def _asked(self, ctx: Context, name: str) -> Asked:
        namespace, _, service = name.partition("/")
        namespace = shared(namespace)  # it is kept, as a look-up
        host = hostname(service, namespace, self._settings.domain)
        here = ctx.get(self._hostnames.table, f"{namespace}/{host}")
        if here is not None and here.source != SERVICE:
            return Asked(own=False, open=False)  # a ServiceEntry of the user has that name
        if here is not None and self._beside:
            return Asked(own=False, open=False)  # istiod gives a Service no identities (D25)
        if here is not None:
            scoped = ctx.get(self._scoped, name)
            reach = Reach() if scoped is None else scoped.reach
            return Asked(reach.takeover, reach.by_rule, not reach.opted_out)
        facts = ctx.get(self._namespaces, namespace)
        reach = scope.reach({}, {} if facts is None else facts.labels)
        recorded = ctx.get(self._recorded, name)
        if recorded is not None and not reach.takeover and not reach.opted_out:
            # The Service that asked is gone, and peers still have the name.
            return shared(Asked(own=True, by_rule=recorded.by_rule))
        return shared(Asked(reach.takeover, open=not reach.opted_out))

    def _to_record(self, ctx: Context, _key: str, name: GlobalName) -> dict[str, Takeover]:
        """That a Service asked; once it is gone, what was recorded of it, until no peer has the name."""
        local = self.local_host(name.name, name.namespace)
        # Beside istiod a Service's name is taken over only once the Service is gone.
        if not name.peers or not (self._beside or name.host == local):
            return {}
        service = shared(f"{name.namespace}/{name.name}")
        if ctx.get(self._hostnames.table, f"{name.namespace}/{local}") is not None:
            scoped = ctx.get(self._scoped, service)
            return {} if scoped is None or not scoped.asks else {service: Takeover(scoped.reach.by_rule)}
        recorded = ctx.get(self._recorded, service)
        return {} if recorded is None or not ctx.ask(self.asked, service).own else {service: recorded}

    def _local_contribution(self, ctx: Context, key: tuple[str, str], found: Import) -> Contribution | None:
        """What it says of the local name, where that is taken over."""
        if not self._takes_over(ctx, key[1], found):
            return None
        host = found.service.local_host
        said = contribution_of(found)
        return msgspec.structs.replace(said, key=f"{said.namespace}/{host}", host=host)

    def _takeover_diagnostics(
        self, ctx: Context, key: tuple[str, str], found: Import
    ) -> dict[str, Diagnostic]:
        service = found.service
        if not found.same_names or service.local_host == self.local_host(service.name, service.namespace):
            return {}
        if not ctx.ask(self.asked, key[1]).own:
            return {}
        return keyed(
            (
                warning(
                    f"Service/{service.namespace}/{service.name}",
                    f"metadata.labels[{scope.TAKEOVER}]",
                    f"cluster {found.cluster} calls it {service.local_host}, of another cluster domain",
                    f"use {service.global_host} to reach that cluster",
                ),
            ),
            f"takeover {found.cluster}",
        )
