"""Whose an alias is where several services want it: the oldest's, then the first by namespace and name."""

import msgspec

from peerd.derive.engine import Collection, Context, Engine
from peerd.derive.global_names import Contribution
from peerd.derive.imports import Import, contribution_of
from peerd.derive.problems import keyed, warning
from peerd.derive.scoped import Scoped
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import FederatedService

# Gateway (empty for us), service, alias.
_Key = tuple[str, str, str]


class AliasOwners:
    """`contributions`: what those say of an alias whose it is, by cluster."""

    def __init__(
        self,
        engine: Engine,
        *,
        scoped: Collection[str, Scoped],
        imports: Collection[tuple[str, str], Import],
    ) -> None:
        # Under the alias.
        self._claims = engine.index(
            "claims of aliases",
            (
                engine.derive_many("own claims of aliases", scoped, _own),
                engine.derive_many("peers' claims of aliases", imports, _theirs),
            ),
            lambda _key, found: (found.host,),
        )
        self._owners = engine.derive("owners of aliases", self._claims, lambda _c, _k, found: _owner(found))
        self.contributions = engine.derive_many("contributions to aliases", self._claims, _of_owner)
        self.diagnostics = engine.derive_many("claims of others' aliases", self._claims, _refused)

    def owner(self, ctx: Context, host: str) -> str:
        """`<namespace>/<name>` of the service whose alias *host* is, empty where it is none."""
        return ctx.get(self._owners, host) or ""

    def keys(self, ctx: Context, service: str, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Resource names of those *hosts* that are the *service*'s."""
        namespace = service.partition("/")[0]
        return tuple(f"{namespace}/{host}" for host in hosts if ctx.get(self._owners, host) == service)


def _aliased(peer: str, said: Contribution, hosts: tuple[str, ...]) -> dict[_Key, Contribution]:
    return {
        (peer, _service(said), host): msgspec.structs.replace(said, key=f"{said.namespace}/{host}", host=host)
        for host in hosts
    }


def _own(_ctx: Context, _key: str, found: Scoped) -> dict[_Key, Contribution]:
    return {} if found.contribution is None else _aliased("", found.contribution, found.aliases)


def _theirs(_ctx: Context, key: tuple[str, str], found: Import) -> dict[_Key, Contribution]:
    return _aliased(key[0], contribution_of(found), found.aliases) if found.aliases else {}


def _service(found: Contribution) -> str:
    return f"{found.namespace}/{found.name}"


def claim_rank(found: Contribution | FederatedService) -> tuple[str, str]:
    """The smallest has the alias: the oldest, then the first by namespace and name."""
    return found.created or "~", f"{found.namespace}/{found.name}"


def _owner(claims: tuple[Contribution, ...]) -> str:
    return _service(min(claims, key=claim_rank))


def _of_owner(_ctx: Context, _host: str, claims: tuple[Contribution, ...]) -> dict[_Key, Contribution]:
    owner = _owner(claims)
    return {(found.peer, owner, found.host): found for found in claims if _service(found) == owner}


def _refused(_ctx: Context, host: str, claims: tuple[Contribution, ...]) -> dict[str, Diagnostic]:
    """Told on our own Services that do not have it."""
    owner = _owner(claims)
    found: dict[str, Diagnostic] = {}
    for claim in claims:
        if not claim.peer and _service(claim) != owner:
            text = f"alias {host} belongs to {owner}, which is older"
            fix = "make the Segment's template tell them apart, by {service} or a label"
            told = warning(f"Service/{_service(claim)}", "metadata.labels", text, fix)
            found.update(keyed((told,), f"alias {host}"))
    return found
