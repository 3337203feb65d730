"""The segment this cluster belongs to, and the domain of its global names (decision D25)."""

from peerd.derive.aliases import Alias, fault, usable
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import ONLY, Mesh, MeshFacts
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import error, keyed, name_of
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Segment
from peerd.model.kube.istio import Segment as SegmentObject
from peerd.model.mesh import Settings

MEMBERSHIP = "admin.solo.io/segment"
DEFAULT_DOMAIN = "mesh.internal"


class Segments:
    """The one Segment of this cluster, under `ONLY`; its name is empty for the default segment."""

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        namespaces: Input[str, NamespaceFacts],
        segments: Input[str, SegmentObject],
    ) -> None:
        self._system = settings.system_namespace
        self._namespaces = namespaces
        self._segments = segments
        self.table = engine.derive("own segment", mesh.facts, self._segment)
        self.table.common = True
        self._aliases = engine.derive("own aliases of the segment", mesh.facts, self._usable)
        self._aliases.common = True
        self.diagnostics = (
            engine.derive_many("segment diagnostics", mesh.facts, self._diagnostics),
            engine.derive_many("alias diagnostics", segments, lambda _ctx, _key, found: keyed(_check(found))),
        )

    def of(self, ctx: Context) -> Segment:
        """The segment, as a dependency."""
        return ctx.get(self.table, ONLY) or Segment("", DEFAULT_DOMAIN)

    def aliases(self, ctx: Context) -> tuple[Alias, ...]:
        """The templates of this cluster's own Segment, as a dependency."""
        return ctx.get(self._aliases, ONLY) or ()

    def _usable(self, ctx: Context, _key: str, _mesh: MeshFacts) -> tuple[Alias, ...]:
        name = self._name(ctx)
        return usable(ctx.get(self._segments, f"{self._system}/{name}") if name else None)

    def _name(self, ctx: Context) -> str:
        system = ctx.get(self._namespaces, self._system)
        return "" if system is None else system.labels.get(MEMBERSHIP, "")

    def _segment(self, ctx: Context, _key: str, _mesh: MeshFacts) -> Segment:
        name = self._name(ctx)
        found = ctx.get(self._segments, f"{self._system}/{name}") if name else None
        domain = found.spec.domain if found is not None else ""
        return Segment(name, domain or DEFAULT_DOMAIN)

    def _diagnostics(self, ctx: Context, _key: str, _mesh: MeshFacts) -> dict[str, Diagnostic]:
        name = self._name(ctx)
        found = ctx.get(self._segments, f"{self._system}/{name}") if name else None
        if not name or (found is not None and found.spec.domain):
            return {}
        where, field = f"Namespace/{self._system}", f"metadata.labels[{MEMBERSHIP}]"
        reason = "does not exist" if found is None else "has no spec.domain"
        fix = f"create Segment {self._system}/{name} with a domain; {DEFAULT_DOMAIN} is used"
        return keyed((error(where, field, f"Segment {name} {reason}", fix),))


def _check(segment: SegmentObject) -> tuple[Diagnostic, ...]:
    """Templates that make no names."""
    fix = "write text with {service}, {namespace}, {labels['key']}, {annotations['key']}; it is left out"
    return tuple(
        error(name_of("Segment", segment), f"spec.aliases[{at}].pattern", wrong, fix)
        for at, alias in enumerate(segment.spec.aliases)
        if (wrong := fault(alias.pattern))
    )
