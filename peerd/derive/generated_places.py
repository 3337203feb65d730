"""Where generated objects lie, and what their ServiceEntries select (D38, D41; docs/beside-istiod.md).

A ServiceEntry takes Pods of its own namespace only, so one with local endpoints lies beside its Service and
has the Service's selector; its WorkloadEntries carry labels that this selector matches. Where that is not
safe, or nothing is there to select, a private label ties them together that nobody else's selector names.
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
    """A namespace, and the selector of the Service there; empty where a private label is used.

    `problem` says why local endpoints are left out though there could be some.
    """

    namespace: str
    selector: labels.Labels = ()
    problem: str = ""


class _Selecting(Record, frozen=True):
    """A global Service of ours that selects Pods; of equal selectors the first keeps them."""

    key: str
    namespace: str
    selector: labels.Labels
    created: str

    def before(self, other: "_Selecting") -> bool:
        """Whether entries of *other* would also be taken by this one, and this one keeps its selector."""
        if not labels.contains(dict(other.selector), self.selector):
            return False
        narrower = len(self.selector) < len(other.selector)
        return narrower or (self.created or "~", self.key) < (other.created or "~", other.key)


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
            exists = ctx.get(self._namespaces, namespace) is not None
            return Place(namespace if exists and ctx.ask(self._mesh.selected, namespace) else system)
        found = ctx.get(self._selecting, service)
        if found is None:
            scoped = ctx.get(self._scoped, service)
            entry = scoped is not None and scoped.info.source == SERVICE_ENTRY
            problem = (
                "it would take other clusters' endpoints, too" if entry else "the Service has no selector"
            )
            return Place(namespace, problem=problem)
        rival = self._rival(ctx, found)
        if rival:
            return Place(namespace, problem=f"{rival} selects the same endpoints")
        return Place(namespace, found.selector)

    def _rival(self, ctx: Context, own: _Selecting) -> str:
        """Another ServiceEntry of the namespace that would take our entries too, a user's or our own."""
        carried = dict(own.selector)
        for pair in own.selector:
            for other in ctx.find(self._by_pair, (own.namespace, *pair)):
                if other.key != own.key and other.before(own):
                    return f"global Service {other.key}"
            for info in ctx.find(self._hostnames.selecting, (own.namespace, *pair)):
                if info.source == SERVICE_ENTRY and labels.contains(carried, info.selector):
                    return f"ServiceEntry {info.object}"
        return ""


def _selecting(_ctx: Context, key: str, found: Scoped) -> _Selecting | None:
    info = found.info
    if found.contribution is None or info.source != SERVICE or not info.selector:
        return None
    return _Selecting(key, info.service.namespace, info.selector, info.created)
