"""Where generated objects lie, and what their ServiceEntries select (D38, D41; docs/beside-istiod.md).

A ServiceEntry takes Pods of its own namespace only, so one with local endpoints lies beside its Service and
has the Service's selector; its WorkloadEntries carry labels that this selector matches. Where that is not
safe, or nothing is there to select, a private label ties them together that nobody else's selector names.

Of Services that select the same Pods, and that the same clusters serve by the same accounts, as a headless
twin's, the WorkloadEntries of one are the endpoints of all. A user's ServiceEntry that is global has no
WorkloadEntries at all: they would be endpoints of its own hosts, too, which lack the identities.
"""

from peerd.derive import labels
from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import ONLY, Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.scoped import Scoped
from peerd.derive.services import SERVICE, SERVICE_ENTRY
from peerd.model.generated import IstiodFlags
from peerd.model.mesh import Settings
from peerd.model.record import Record

UNREAD = IstiodFlags(False, "nothing is known of istiod's flags")


class Place(Record, frozen=True):
    """A namespace, and the selector of what is global there; empty where a private label is used.

    `tied` says whether WorkloadEntries are written for it, `problem` why some endpoints are left out though
    there could be some: local ones, or where none are tied those of other clusters.
    """

    namespace: str
    selector: labels.Labels = ()
    problem: str = ""
    tied: bool = True


class _Selecting(Record, frozen=True):
    """A global Service of ours that selects Pods; of equal selectors the first keeps them.

    `name` is the key of its global name.
    """

    key: str
    namespace: str
    selector: labels.Labels
    created: str
    name: str

    @property
    def rank(self) -> tuple[int, str, str]:
        """The lowest of those that overlap keeps its selector: the widest, then the oldest."""
        return (len(self.selector), self.created or "~", self.key)

    def before(self, other: "_Selecting") -> bool:
        """Whether entries of *other* would also be taken by this one, and this one keeps its selector."""
        return self.rank < other.rank and labels.contains(dict(other.selector), self.selector)


class Places:
    """Asked for `<namespace>/<name>` of a service; `own` where our own Service is behind the name."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        namespaces: Input[str, NamespaceFacts],
        names: GlobalServices,
        hostnames: Hostnames,
        flags: Collection[str, IstiodFlags],
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._namespaces = namespaces
        self._hostnames = hostnames
        self._names = names
        self._scoped = names.scoped
        self._flags = flags
        self._selecting = engine.derive("selecting global services", names.scoped, _selecting)
        self._by_pair = engine.index(
            "global services by selector",
            self._selecting,
            lambda _key, found: ((found.namespace, *labels.anchor(found.selector)),),
        )
        self._place = engine.memo("places of generated objects", self._find)

    def of(self, ctx: Context, service: str, *, own: bool) -> Place:
        """The place of what is generated for *service*, as a dependency."""
        return ctx.ask(self._place, (service, own))

    def flags(self, ctx: Context) -> IstiodFlags:
        """What is known of istiod, as a dependency; nothing matters where none is beside us."""
        if not self._settings.generate.for_istiod:
            return IstiodFlags(True)
        return ctx.get(self._flags, ONLY) or UNREAD

    def _find(self, ctx: Context, asked: tuple[str, bool]) -> Place:
        service, own = asked
        namespace = service.partition("/")[0]
        system = self._settings.system_namespace
        flags = self.flags(ctx)
        if not flags.safe:
            return Place(system, problem=flags.problem)
        if not own:
            facts = ctx.get(self._namespaces, namespace)
            usable = facts is not None and not facts.ends and ctx.ask(self._mesh.selected, namespace)
            return Place(namespace if usable else system)
        found = ctx.get(self._selecting, service)
        if found is None:
            return self._unselecting(ctx, service, namespace)
        rival = self._users(ctx, found)
        if not rival:
            first = min(self._before(ctx, found), key=lambda other: other.rank, default=None)
            if first is None or self._twins(ctx, first, found):
                return Place(namespace, found.selector, tied=first is None)
            rival = f"global Service {first.key}"
        return Place(namespace, problem=f"{rival} selects the same endpoints")

    def _unselecting(self, ctx: Context, service: str, namespace: str) -> Place:
        """Of a global object that is no Service with a selector."""
        scoped = ctx.get(self._scoped, service)
        if scoped is None or scoped.contribution is None or scoped.info.source != SERVICE_ENTRY:
            return Place(namespace, problem="the Service has no selector")
        if not scoped.info.selector:
            return Place(namespace, problem="it names endpoints itself, where it could select them")
        name = ctx.get(self._names.names, scoped.contribution.key)
        problem = "its own hosts would have them, too" if name is not None and name.peers else ""
        return Place(namespace, scoped.info.selector, problem, tied=False)

    def _users(self, ctx: Context, own: _Selecting) -> str:
        """A user's ServiceEntry of the namespace that would take our entries too."""
        carried = dict(own.selector)
        for pair in own.selector:
            for info in ctx.find(self._hostnames.selecting, (own.namespace, *pair)):
                if info.source == SERVICE_ENTRY and labels.contains(carried, info.selector):
                    return f"ServiceEntry {info.object}"
        return ""

    def _before(self, ctx: Context, own: _Selecting) -> list[_Selecting]:
        """Other global Services whose ServiceEntries would take our entries too."""
        return [
            other
            for pair in own.selector
            for other in ctx.find(self._by_pair, (own.namespace, *pair))
            if other.before(own)
        ]

    def _twins(self, ctx: Context, first: _Selecting, own: _Selecting) -> bool:
        """Whether what is an endpoint of one elsewhere is one of the other."""
        if first.selector != own.selector:
            return False
        one, other = (
            {(said.peer, said.identities) for said in ctx.find(self._names.contributions, each.name)}
            for each in (first, own)
        )
        return one == other


def _selecting(_ctx: Context, key: str, found: Scoped) -> _Selecting | None:
    info = found.info
    if found.contribution is None or info.source != SERVICE or not info.selector:
        return None
    return _Selecting(key, info.service.namespace, info.selector, info.created, found.contribution.key)
