"""Gateways of peers that go: what came through one is taken back first, in turns, while others are served.

To derivation a peer's Gateway is what all its services and endpoints lead through. Were it gone at once, tens
of thousands of them would be derived anew in one batch, and every other change would wait for that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from peerd.derive.gateways import REMOTE_CLASS
from peerd.model.changes import ObjectChange
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey


class Departures:
    """`Follow` in derivation's place: all changes go on to *submit*, those of a Gateway that goes later.

    Args:
        submit: derivation.
        derived: waits until what it took has been derived.
        holds_much: whether a Gateway's peer is one to take leave of in turns.
        leave: ends its link and takes back what it brought.
    """

    def __init__(
        self,
        submit: Callable[[Sequence[ObjectChange]], None],
        *,
        derived: Callable[[], Awaitable[None]],
        holds_much: Callable[[ObjectKey], bool],
        leave: Callable[[ObjectKey], Awaitable[None]],
    ) -> None:
        self._submit = submit
        self._derived = derived
        self._holds_much = holds_much
        self._leave = leave
        # What became of Gateways since: the last word counts, once the first has been derived.
        self._going: dict[ObjectKey, list[ObjectChange]] = {}
        self._more = asyncio.Event()

    def __call__(self, changes: Sequence[ObjectChange]) -> None:
        """`Follow`."""
        if through := [change for change in changes if not self._kept(change)]:
            self._submit(through)

    async def run(self) -> None:
        """Let them go one after the other, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._going:
                await self._let_go(next(iter(self._going)))

    def _kept(self, change: ObjectChange) -> bool:
        if change.kind != "Gateway":
            return False
        if change.key in self._going:
            self._going[change.key][1:] = [change]
            return True
        if _leads_to_a_peer(change) or not self._holds_much(change.key):
            return False
        self._going[change.key] = [change]
        self._more.set()
        return True

    async def _let_go(self, key: ObjectKey) -> None:
        await self._leave(key)
        self._submit(self._going[key][:1])
        # One that came back meanwhile is another one: this peer's end must not be lost in its beginning.
        await self._derived()
        if later := self._going.pop(key)[1:]:
            self._submit(later)


def _leads_to_a_peer(change: ObjectChange) -> bool:
    found = change.object
    return isinstance(found, Gateway) and found.spec.gateway_class_name == REMOTE_CLASS
