"""What a peerd writes into its own cluster, and what it must know before: wired for both modes."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from peerd.app.federation import Federation
from peerd.app.parts import Parts
from peerd.app.problems import Problems
from peerd.app.proof import Proof
from peerd.model.changes import Change, IstiodChange
from peerd.model.config import ServeConfig
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.generated import Generate, IstiodFlags

if TYPE_CHECKING:
    from peerd.app.generation import Generation
    from peerd.app.publishing import Publishing
    from peerd.publish.permit import Permit

_LOOK = 1.0  # seconds between two looks at who has spoken, and who writes

_UNREAD = Diagnostic(
    "Deployment/istiod",
    "spec.template",
    "istiod's Deployments have not been read yet; nothing is written before",
    "let peerd's account list and watch Deployments of the system namespace, or set --istiod-flags",
)


def generates(config: ServeConfig) -> Generate:
    """What the settings say is written."""
    if not config.source.startswith("kube"):
        return Generate.NOTHING
    return Generate(config.mode)


class OwnCluster:
    """`generation` is None where objects do not come from an API server: there is nowhere to write."""

    def __init__(self, config: ServeConfig, parts: Parts, emit: Callable[[Sequence[Change]], None]) -> None:
        self._config = config
        self._parts = parts
        self._emit = emit
        self._flags_known = not generates(config).for_istiod
        self.flags: IstiodFlags | None = None
        self.generation: Generation | None = None
        self.publishing: Publishing | None = None
        if parts.kube is not None:
            # Late: whoever reads a directory does not need it.
            from peerd.app import generation as objects
            from peerd.app import publishing as wiring

            transport = parts.kube.transport
            publishing = wiring.Publishing(config, transport, clock=parts.clock, source=parts.random)
            self.publishing = publishing
            self.generation = objects.Generation(publishing.writer, publishing.lease, emit, parts.clock)

    @property
    def permit(self) -> "Permit | None":
        """Whether this replica writes; None where there is nowhere to write."""
        return None if self.publishing is None else self.publishing.lease

    async def write(self) -> None:
        """Bring the cluster to what is wanted, until cancelled."""
        if self.generation is None or self.publishing is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.generation.run())
            tasks.create_task(self.publishing.run())

    async def follow_istiod(self) -> None:
        """Beside one, follow its flags until cancelled (decision D41)."""
        if self._flags_known:
            return
        from peerd.app.istiod import explicit_flags  # only there

        explicit = explicit_flags(self._config)
        if explicit is not None:
            self._flags(explicit)
        elif self._parts.kube is not None:
            await self._parts.kube.istiod(self._config, self._parts.random, self._flags)

    def _flags(self, flags: IstiodFlags) -> None:
        self._flags_known = True
        self.flags = flags
        self._emit([IstiodChange(flags)])

    async def settle(self, federation: Federation, problems: Problems, proof: Proof) -> None:
        """Once sources and restored imports are derived: what nobody wants goes, with proof, until cancelled.

        *federation* says which peers have yet to speak (decision D13).
        """
        generation = self.generation
        while generation is not None:
            if self._flags_known:
                generation.look(
                    frozenset(map(str, federation.forgotten())), frozenset(map(str, federation.awaited()))
                )
            unread = () if self._flags_known else (_UNREAD,)
            found = (*unread, *proof.diagnostics, *generation.problems, *self._without_rights())
            problems.replace("own cluster", found)
            await asyncio.sleep(_LOOK)

    def _without_rights(self) -> Iterator[Diagnostic]:
        """What cannot be done for want of a right: told on the system Namespace, as it concerns all of us."""
        lacking = () if self._parts.kube is None else self._parts.kube.rights.lacking()
        for each in lacking:
            where = f" in namespace {each.namespace}, or more of them" if each.namespace else ""
            yield Diagnostic(
                f"Namespace/{self._config.system_namespace}",
                f"rules ({each.right})",
                f"the API server refuses {each.right} to peerd{where}; what needs it stays as it is",
                f"grant it to ServiceAccount {self._config.peer_service_account}, as ClusterRole and Roles of"
                " the chart and of manifests/base do",
                Severity.WARNING,
            )
