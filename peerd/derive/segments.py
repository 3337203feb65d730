"""The segment this cluster belongs to, and the domain of its global names (decision D25)."""

from peerd.derive.aliases import Alias, fault, is_host, usable
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
        self._domain = settings.domain
        self._namespaces = namespaces
        self._segments = segments
        self.table = engine.derive("own segment", mesh.facts, self._segment)
        self.table.common = True
        self._aliases = engine.derive("own aliases of the segment", mesh.facts, self._usable)
        self._aliases.common = True
        self.diagnostics = (
            engine.derive_many("segment diagnostics", mesh.facts, self._diagnostics),
            engine.derive_many(
                "alias diagnostics", segments, lambda _ctx, _key, found: keyed(_check(found, self._domain))
            ),
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
        usable_domain = found is not None and not domain_fault(found.spec.domain, self._domain)
        return Segment(name, found.spec.domain if found is not None and usable_domain else DEFAULT_DOMAIN)

    def _diagnostics(self, ctx: Context, _key: str, _mesh: MeshFacts) -> dict[str, Diagnostic]:
        name = self._name(ctx)
        found = ctx.get(self._segments, f"{self._system}/{name}") if name else None
        wrong = "" if found is None else domain_fault(found.spec.domain, self._domain)
        if not name or (found is not None and not wrong):
            return {}
        where, field = f"Namespace/{self._system}", f"metadata.labels[{MEMBERSHIP}]"
        reason = "does not exist" if found is None else f"has no domain to use: spec.domain {wrong}"
        fix = f"create Segment {self._system}/{name} with a domain; {DEFAULT_DOMAIN} is used"
        return keyed((error(where, field, f"Segment {name} {reason}", fix),))


def domain_fault(domain: str, cluster_domain: str) -> str:
    """What is wrong with a segment's domain, empty where nothing is. Peers refuse one that is wrong, too."""
    if not domain:
        return "is empty"
    if not is_host(domain):
        return f"{domain!r} is no domain name"
    if f".{domain}".endswith(f".{cluster_domain}"):
        return f"{domain!r} lies in the cluster's own domain {cluster_domain}"
    return ""


def _check(segment: SegmentObject, cluster_domain: str) -> tuple[Diagnostic, ...]:
    """A domain that names nothing, and templates that make no names."""
    where, told = name_of("Segment", segment), []
    if wrong := domain_fault(segment.spec.domain, cluster_domain):
        fix = f"write a domain of the segment's own, like mesh.acme; {DEFAULT_DOMAIN} is used"
        told.append(error(where, "spec.domain", wrong, fix))
    fix = "write text with {service}, {namespace}, {labels['key']}, {annotations['key']}; it is left out"
    for at, alias in enumerate(segment.spec.aliases):
        if wrong := fault(alias.pattern):
            told.append(error(where, f"spec.aliases[{at}].pattern", wrong, fix))
    return tuple(told)
