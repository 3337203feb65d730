"""The one writer to the local API server: brings objects to what is wanted, and keeps them there.

Whoever generates something says what it wants of an object, by `want`; whoever watches says what there is, by
`observe`. The writer does the rest:

- It writes only where the two differ, by server-side apply under our field manager; what others own stays.
- It writes only while it may (`Permit`: the Lease is held), so any number of replicas may want the same.
- Nothing is deleted unless somebody said so by `want(ref, None)`, and then only the very object that was
  seen (uid) and only if it carries our label. What exists and nobody speaks for is listed by `unspoken`.
- An edit by somebody else is undone, and told. So is a name that is taken by an object not ours: that
  object is left alone.
- Failures are tried again, later and later, with jitter; an API server that asks for patience gets it.
- Everything is bounded: writes a second in all (`KUBE_WRITES`), and of one object (`OBJECT_WRITES`).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import NOT_FOUND, KubeObjects, Resource
from peerd.limits import KUBE_WRITE_S, KUBE_WRITES, OBJECT_WRITES, hit
from peerd.model.clock import Clock
from peerd.publish.drift import foreign, timed, transitions
from peerd.publish.notice import Notice, NoticeKind, Transition
from peerd.publish.pace import Bucket, Lately, keep_working
from peerd.publish.permit import Always, Permit
from peerd.publish.ref import Observed, Ref, observed
from peerd.publish.writer_entry import Entry, encode
from peerd.publish.writer_failures import Failures
from peerd.publish.writer_queue import Queue
from peerd.publish.writer_requests import Requests

_CONFLICT = 409


class Writer:
    """Call `run` in a task; everything else at any time, from the same event loop.

    Args:
        objects: the API server.
        clock: its monotonic time paces, its wall time dates conditions.
        source: draws the jitter of retries.
        permit: says for how long writes are allowed; call `wake` when that begins.
        tell: takes notices, at most one per change.
        changed: takes transitions of conditions, once they are written.
        owned: whether only we write conditions of a type; such a one that is not wanted is taken away.
    """

    def __init__(
        self,
        objects: KubeObjects,
        *,
        clock: Clock,
        source: random.Random,
        permit: Permit | None = None,
        tell: Callable[[Notice], None] = lambda _notice: None,
        changed: Callable[[Transition], None] = lambda _transition: None,
        owned: Callable[[str], bool] = lambda _type: False,
    ) -> None:
        self._requests = Requests(objects)
        self._clock = clock
        self._failures = Failures(clock, source, tell)
        self._permit = permit or Always()
        self._changed = changed
        self._owned = owned
        self._entries: dict[Ref, Entry] = {}
        # Of objects that were forgotten: one that comes and goes is bounded, too.
        self._spent: Lately[Ref] = Lately()
        self._queue = Queue()
        self._bucket = Bucket(KUBE_WRITES.value, 2 * KUBE_WRITES.value, clock.monotonic())

    # -- what is wanted, and what there is ---------------------------------------------------------------

    def want(
        self, ref: Ref, manifest: Mapping[str, Any] | None, *, order: int = 0, exact: bool = True
    ) -> None:
        """Want *ref* to be as *manifest* says, or with None to be gone (a status: what we wrote of it).

        `manifest` is an object's JSON: `metadata` with name, namespace, and for generated objects the common
        label (decision D36), and the fields that are ours; `apiVersion` and `kind` are filled in. A condition
        needs no `lastTransitionTime`. Saying the same again costs nothing. Among what is due, lower *order*
        is written first and deleted last. With *exact* (for what we generate whole) a field that somebody
        adds outside of metadata and status is taken away again; without it the API server may add defaults.
        A status of an object that does not exist waits until that is observed.
        """
        entry = self._entry(ref)
        wanted = None if manifest is None else encode(manifest)
        if entry.spoken and wanted == entry.wanted:
            return
        entry.spoken, entry.wanted, entry.order = True, wanted, order
        entry.exact = exact and not ref.subresource
        entry.failures, entry.reverts = 0, ()
        if wanted is None and entry.known and entry.live is None:
            self._forget(entry)
            return
        if ref.subresource and entry.live is None:
            entry.known = False  # it may exist again, and whoever watches may not have said so
        if wanted is not None and wanted == entry.settled:
            self._queue.remove(entry)  # it was wanted otherwise for a moment
        elif wanted is not None and entry.is_as_wanted(entry.live):
            self._settle(entry, wanted)
        else:
            self._enqueue(entry)

    def observe(self, ref: Ref, found: Observed | None) -> None:
        """The API server has *ref* like this, or with None not at all: from a watch, in its order."""
        entry = self._entry(ref)
        if entry.expected:
            version = "" if found is None else found.resource_version
            if entry.is_as_wanted(found):
                entry.behind = None
                if version in {"", entry.expected}:
                    entry.expected = ""
            elif version != entry.expected and (until := entry.past_until(found, self._clock.monotonic())):
                # Of before our write: it matters only if the write's own event never comes.
                entry.behind = (found, until)
                self._queue.look_at(entry, until)
                return
            else:
                entry.expected, entry.behind = "", None
        self._adopt(entry, found)

    def unspoken(self) -> list[Ref]:
        """Our objects that exist and nobody has spoken for: `want(ref, None)` them once that is proof."""
        return sorted(
            (
                ref
                for ref, entry in self._entries.items()
                if not entry.spoken and entry.live is not None and (ref.subresource or entry.live.ours)
            ),
            key=lambda ref: ref.sort_key,
        )

    def live(self, ref: Ref) -> Observed | None:
        """What was last seen of *ref*; the tree may be empty where it is as wanted."""
        entry = self._entries.get(ref)
        return None if entry is None else entry.live

    def problems(self) -> tuple[Notice, ...]:
        """What the API server refuses at present, or what is in the way."""
        return self._failures.present(self._entries)

    @property
    def counts(self) -> Counter[tuple[str, str, str]]:
        """Requests by kind, verb (`get`, `apply`, `merge`, `delete`) and outcome (`ok`, `error`)."""
        return self._requests.counts

    @property
    def pending(self) -> int:
        """How many objects wait for a write."""
        return self._queue.pending

    async def load(self, resource: Resource, *, namespace: str = "") -> None:
        """Observe every object of *resource* that carries our label: for kinds that nobody watches.

        Raises:
            ApiError, ApiUnreachableError: it could not be listed; nothing was observed.
        """
        for tree in await self._requests.generated(resource, namespace):
            meta = tree["metadata"]
            self.observe(Ref(resource, meta.get("namespace", ""), meta["name"]), observed(tree))

    # -- running -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again: the permit was given."""
        self._queue.wake.set()

    async def idle(self) -> None:
        """Wait until nothing is left to write, retries included."""
        await self._queue.idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        await keep_working(self.work, self._queue.wake)

    async def work(self) -> float | None:
        """Write what is due and allowed now; returns the seconds until more is due, None for never."""
        queue = self._queue
        while True:
            now = self._clock.monotonic()
            for entry in queue.due(now):
                if entry.behind is not None and now >= entry.behind[1]:
                    found, entry.behind, entry.expected = entry.behind[0], None, ""
                    self._adopt(entry, found)
                elif entry.expected and now >= entry.expected_until:
                    # Nobody saw our write: it came and went while nobody watched, perhaps. Look.
                    entry.expected, entry.known = "", False
                    self._enqueue(entry)
            if not queue.pending:
                queue.idle.set()
            if not queue.is_ready:
                return queue.until_due(now)
            if self._permit.remaining() <= 0:
                return None  # `wake` ends it
            paused = self._failures.paused_until - now
            wait = max(paused, self._bucket.wait(now))
            if wait > 0:
                if wait > paused:
                    hit(KUBE_WRITES)
                return wait
            due = queue.pop()
            if due is not None:
                await self._bring(due)

    # -- one object --------------------------------------------------------------------------------------

    async def _bring(self, entry: Entry) -> None:
        wanted = entry.wanted
        try:
            async with asyncio.timeout(min(float(KUBE_WRITE_S.value), self._permit.remaining())):
                if not entry.known:
                    self._adopt(entry, await self._requests.get(entry.ref), asked=True)
                    if wanted is not None and entry.settled == wanted:
                        return
                if wanted is None:
                    done = await self._remove(entry)
                else:
                    done = await self._put(entry, wanted)
        except TimeoutError:
            hit(KUBE_WRITE_S)
            self._failed(entry, ApiUnreachableError(f"no answer within {KUBE_WRITE_S.value} s"))
            return
        except (ApiError, ApiUnreachableError) as error:
            self._failed(entry, error)
            return
        self._failures.none()
        if done:
            entry.failures, entry.told = 0, ""

    async def _put(self, entry: Entry, manifest: bytes) -> bool:
        ref, live = entry.ref, entry.live
        if ref.subresource and live is None:
            entry.told = ""
            return False  # the object is gone: until it is observed
        if not ref.subresource and live is not None and not live.ours:
            self._taken(entry)
            return False
        tree = None if live is None else live.tree
        if tree is not None and not entry.drift(tree, manifest):
            self._settle(entry, manifest)
            return True
        wanted = msgspec.json.decode(manifest)
        excess = foreign(tree, wanted) if entry.exact and tree is not None else {}
        reverts = entry.reverts  # our own write may be observed before its answer is here
        self._spend(entry)
        if excess:
            await self._requests.merge(ref, excess)
        if ref.subresource:
            now = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            wanted = timed(wanted, tree, now)
        answer = await self._requests.apply(ref, wanted)
        excess = foreign(answer, wanted) if entry.exact else {}
        if excess and encode(excess) != entry.added:
            # A hand's, which no watch has told yet; or the server's own, and then it is there again.
            answer = await self._requests.merge(ref, excess)
        entry.reverts = ()
        seen = "" if entry.live is None else entry.live.resource_version
        entry.wrote(manifest, wanted, answer, self._clock.monotonic())
        entry.behind = None
        if seen == entry.expected:
            entry.expected = ""  # the watch was faster than the answer
        elif not ref.subresource:
            self._queue.look_at(entry, entry.expected_until)
        self._settle(entry, manifest)
        for before, after in transitions(wanted, tree) if ref.subresource else ():
            self._changed(Transition(ref, before, after))
        if reverts:
            text = f"was edited ({', '.join(reverts)}); it is as generated again"
            self._failures.say(NoticeKind.REVERTED, ref, text)
        return True

    async def _remove(self, entry: Entry) -> bool:
        ref, live = entry.ref, entry.live
        if live is None:
            self._forget(entry)
            return True
        if ref.subresource:
            # What we no longer apply is taken away, what others wrote stays.
            self._spend(entry)
            await self._requests.apply(ref, {"metadata": {"namespace": ref.namespace, "name": ref.name}})
        elif not live.ours:
            self._taken(entry)
        else:
            self._spend(entry)
            await self._requests.delete(ref, live.uid)
        if entry.wanted is None:
            self._forget(entry)
        else:
            entry.live, entry.known = None, False
        return True

    def _failed(self, entry: Entry, error: ApiError | ApiUnreachableError) -> None:
        ref = entry.ref
        status = error.status if isinstance(error, ApiError) else 0
        if ref.subresource and status == NOT_FOUND:
            # Gone, and whoever watches will say so; or an API server lost it for a while, and nobody will.
            if entry.wanted is None:
                self._forget(entry)
            else:
                self._enqueue(entry, self._failures.wait(entry))
            return
        if status in {NOT_FOUND, _CONFLICT} and not ref.subresource:
            entry.known = False  # it is not what we took it for: look first
        if self._failures.paused(ref, error):
            self._enqueue(entry)
        else:
            self._enqueue(entry, self._failures.refused(entry, error))

    def _taken(self, entry: Entry) -> None:
        if entry.wanted is None:
            self._forget(entry)
            return
        entry.known, entry.reverts = False, ()  # nobody tells us when it goes
        self._enqueue(entry, self._failures.taken(entry))

    # -- bookkeeping -------------------------------------------------------------------------------------

    def _adopt(self, entry: Entry, found: Observed | None, *, asked: bool = False) -> None:
        """What the API server has, found to be as wanted or queued; *asked* is who writes it next."""
        was_settled, was = entry.settled == entry.wanted, entry.live
        entry.known, entry.live, entry.settled = True, found, None
        if found is None and not entry.spoken:
            self._forget(entry)
            return
        if not entry.spoken:
            return
        if entry.wanted is None:
            if found is None:
                self._forget(entry)
            elif not asked:
                self._enqueue(entry)
            return
        if found is None:
            if was_settled and was is not None and not entry.ref.subresource:
                entry.reverts = ("deleted",)
        else:
            fields = entry.drift(found.tree, entry.wanted)
            if not fields and (entry.ref.subresource or found.ours):
                self._settle(entry, entry.wanted)
                return
            if entry.reverts or (was_settled and was is not None and was.uid == found.uid):
                entry.reverts = fields
        if not asked:
            # A name that is free may be somebody else's by now: look before it is written.
            entry.known = found is not None or bool(entry.ref.subresource)
            self._enqueue(entry)

    def _settle(self, entry: Entry, manifest: bytes) -> None:
        """`live` is as *manifest* says; what was to be written for its sake need not be."""
        entry.settle(manifest)
        if manifest == entry.wanted:
            self._queue.remove(entry)

    def _spend(self, entry: Entry) -> None:
        now = self._clock.monotonic()
        self._bucket.take(now)
        entry.spend(now)

    def _enqueue(self, entry: Entry, wait: float = 0.0) -> None:
        """Bring it to what is wanted in *wait* seconds, or when it may be written again."""
        now = self._clock.monotonic()
        pause = entry.pause(now)
        if pause > wait:
            hit(OBJECT_WRITES)
        self._queue.add(entry, now, max(wait, pause))

    def _entry(self, ref: Ref) -> Entry:
        entry = self._entries.get(ref)
        if entry is None:
            entry = self._entries[ref] = Entry(ref, self._owned, self._spent.take(ref))
        return entry

    def _forget(self, entry: Entry) -> None:
        self._queue.remove(entry)
        entry.look = 0
        if self._entries.pop(entry.ref, None) is not None and entry.bucket is not None:
            self._spent.keep(entry.ref, entry.bucket, self._clock.monotonic())
