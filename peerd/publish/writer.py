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
import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import structlog

from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects, Resource
from peerd.limits import KUBE_WRITE_S, KUBE_WRITES, OBJECT_WRITES, hit
from peerd.model.clock import Clock
from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE
from peerd.model.record import Record
from peerd.publish.drift import drift, foreign, timed, transitions
from peerd.publish.pace import Bucket, retry_wait

log = structlog.get_logger("peerd.writer")

_ECHO_SECONDS = 30.0  # how long a watch may lag behind the answer to our own write
_BLIND_SECONDS = 5.0  # and one that tells no versions, whose lag looks like an edit
_OBJECT_PAUSE = 10.0  # seconds until an object that was written OBJECT_WRITES times may be written once more
_SortKey = tuple[str, str, str, str]
_encode = msgspec.json.Encoder(order="deterministic").encode


class Ref(Record, frozen=True):
    """One object that is written, or with `subresource` `status` its status."""

    resource: Resource
    namespace: str
    name: str
    subresource: str = ""

    def __str__(self) -> str:
        """As in diagnostics: `<Kind>/<namespace>/<name>`."""
        return "/".join(filter(None, (self.resource.kind, self.namespace, self.name)))

    @property
    def sort_key(self) -> _SortKey:
        """Any fixed order."""
        return self.resource.plural, self.namespace, self.name, self.subresource


class Observed(Record, frozen=True):
    """An object as the API server has it. `tree` is its decoded JSON, or the part that we write.

    `resource_version` may be empty where whoever watches does not keep it: then an edit within 5 s of our own
    write is told from that write's past, and undone, only when those are over.
    """

    uid: str
    resource_version: str
    tree: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether it carries the label of what we generate (decision D36)."""
        labels = (self.tree.get("metadata") or {}).get("labels") or {}
        return bool(labels.get(GENERATED_LABEL) == GENERATED_VALUE)


class NoticeKind(StrEnum):
    """What the writer tells."""

    REVERTED = "reverted"  # somebody edited or deleted it, and it is again as we want it
    TAKEN = "taken"  # an object with its name is not ours; nothing was written
    REFUSED = "refused"  # the API server does not take it; tried again


class Notice(Record, frozen=True):
    """Something the owner of *ref* should know; `message` names the fields, or the refusal."""

    kind: NoticeKind
    ref: Ref
    message: str


class Transition(Record, frozen=True):
    """A condition of *ref* was written with another status or reason than before; `before` may be None."""

    ref: Ref
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


class Permit(Protocol):
    """The right to write."""

    def remaining(self) -> float:
        """Seconds for which it is surely held; 0 = not held."""
        ...


class Always:
    """The permit of a writer without rivals."""

    def remaining(self) -> float:
        """`Permit.remaining`."""
        return float("inf")


class _Entry:
    """What is wanted and known of one object."""

    __slots__ = (
        "behind", "bucket", "exact", "expected", "expected_until", "failures", "known", "lenient", "live",
        "order", "reverts", "settled", "spoken", "told", "turn", "wanted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.spoken = False  # somebody said what they want of it
        self.wanted: bytes | None = None  # the manifest, as deterministic JSON
        self.order = 0
        self.exact = True
        self.known = False  # `live` is the API server's word
        self.live: Observed | None = None
        self.settled: bytes | None = None  # the manifest that `live` was found to be like
        self.lenient = (b"", b"")  # a manifest, and what the server made of it where that is not the same
        self.expected = ""  # the version our last write made, until it is observed
        self.expected_until = 0.0
        # Observed meanwhile, and older; and when it is believed all the same.
        self.behind: tuple[Observed | None, float] | None = None
        self.reverts: tuple[str, ...] = ()  # fields that somebody edited
        self.failures = 0
        self.turn = 0  # which entry of a queue is its own; 0: none
        self.told = ""  # the last refusal
        self.bucket: Bucket | None = None


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
        manager: the field manager's name.
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
        manager: str = FIELD_MANAGER,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._random = source
        self._permit = permit or Always()
        self._tell = tell
        self._changed = changed
        self._owned = owned
        self._manager = manager
        self._entries: dict[Ref, _Entry] = {}
        self._troubled: set[Ref] = set()  # those with something told, and some that had
        self._ready: list[tuple[int, int, _SortKey, int, Ref]] = []
        self._waiting: list[tuple[float, _SortKey, int, Ref]] = []
        self._turns = 0
        self._pending = 0
        self._bucket = Bucket(KUBE_WRITES.value, 2 * KUBE_WRITES.value, clock.monotonic())
        self._paused_until = 0.0
        self._failures = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Requests by kind, verb (`get`, `apply`, `merge`, `delete`) and outcome (`ok`, `error`)."""

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
        wanted = None if manifest is None else _encode(manifest)
        if entry.spoken and wanted == entry.wanted:
            return
        entry.spoken, entry.wanted, entry.order = True, wanted, order
        entry.exact = exact and not ref.subresource
        entry.failures, entry.reverts = 0, ()
        if wanted is None and entry.known and entry.live is None:
            self._forget(ref)
            return
        if ref.subresource and entry.live is None:
            entry.known = False  # it may exist again, and whoever watches may not have said so
        if wanted is not None and wanted == entry.settled:
            self._unqueue(entry)  # it was wanted otherwise for a moment
        elif wanted is not None and self._as_wanted(ref, entry, entry.live):
            self._settle(ref, entry, wanted)
        else:
            self._enqueue(ref, entry)

    def observe(self, ref: Ref, observed: Observed | None) -> None:
        """The API server has *ref* like this, or with None not at all: from a watch, in its order."""
        entry = self._entry(ref)
        if entry.expected:
            version = "" if observed is None else observed.resource_version
            if self._as_wanted(ref, entry, observed):
                entry.behind = None
                if version in {"", entry.expected}:
                    entry.expected = ""
            elif version == entry.expected:
                entry.expected, entry.behind = "", None
            elif self._clock.monotonic() < (until := _until(entry, version)) and _older(
                version, entry.expected
            ):
                # Of before our write: it matters only if the write's own event never comes.
                entry.behind = (observed, until)
                heapq.heappush(self._waiting, (until, ref.sort_key, 0, ref))
                self._wake.set()
                return
            else:
                entry.expected, entry.behind = "", None
        self._adopt(ref, entry, observed)

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
        found: list[Notice] = []
        for ref in sorted(self._troubled, key=lambda each: each.sort_key):
            entry = self._entries.get(ref)
            if entry is None or not entry.told:
                self._troubled.discard(ref)
            else:
                found.append(Notice(NoticeKind.REFUSED, ref, entry.told))
        return tuple(found)

    @property
    def pending(self) -> int:
        """How many objects wait for a write."""
        return self._pending

    async def load(self, resource: Resource, *, namespace: str = "") -> None:
        """Observe every object of *resource* that carries our label: for kinds that nobody watches.

        Raises:
            ApiError, ApiUnreachableError: it could not be listed; nothing was observed.
        """
        label = f"{GENERATED_LABEL}={GENERATED_VALUE}"
        for tree in await self._objects.list(resource, namespace, labels=label):
            meta = tree["metadata"]
            self.observe(Ref(resource, meta.get("namespace", ""), meta["name"]), _observed(tree))

    # -- running -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again: the permit was given."""
        self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing is left to write, retries included."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._wake.clear()
            wait = await self.work()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def work(self) -> float | None:
        """Write what is due and allowed now; returns the seconds until more is due, None for never."""
        while True:
            now = self._clock.monotonic()
            self._promote(now)
            if not self._pending:
                self._idle.set()
            if not self._ready:
                return max(0.0, self._waiting[0][0] - now) if self._waiting else None
            if self._permit.remaining() <= 0:
                return None  # `wake` ends it
            wait = max(self._paused_until - now, self._bucket.wait(now))
            if wait > 0:
                if wait > self._paused_until - now:
                    hit(KUBE_WRITES)
                return wait
            *_, turn, ref = heapq.heappop(self._ready)
            entry = self._entries.get(ref)
            if entry is not None and entry.turn == turn:
                self._unqueue(entry)
                await self._bring(ref, entry)

    # -- one object --------------------------------------------------------------------------------------

    async def _bring(self, ref: Ref, entry: _Entry) -> None:
        wanted = entry.wanted
        try:
            async with asyncio.timeout(min(float(KUBE_WRITE_S.value), self._permit.remaining())):
                if not entry.known:
                    self._adopt(ref, entry, await self._get(ref), requeue=False)
                if wanted is None:
                    done = await self._remove(ref, entry)
                else:
                    done = await self._put(ref, entry, wanted)
        except TimeoutError:
            hit(KUBE_WRITE_S)
            self._failed(ref, entry, ApiUnreachableError(f"no answer within {KUBE_WRITE_S.value} s"))
            return
        except (ApiError, ApiUnreachableError) as error:
            self._failed(ref, entry, error)
            return
        self._failures = 0
        if done:
            entry.failures, entry.told = 0, ""

    async def _put(self, ref: Ref, entry: _Entry, manifest: bytes) -> bool:
        live = entry.live
        if ref.subresource and live is None:
            entry.told = ""
            return False  # the object is gone: until it is observed
        if not ref.subresource and live is not None and not live.ours:
            self._taken(ref, entry)
            return False
        wanted = msgspec.json.decode(manifest)
        tree = None if live is None else live.tree
        fields = () if tree is None else self._drift(entry, tree, manifest)
        if tree is not None and not fields:
            self._settle(ref, entry, manifest)
            return True
        excess = foreign(tree, wanted) if entry.exact and tree is not None and not ref.subresource else {}
        self._spend(entry)
        if excess:
            await self._request(ref, "merge", self._objects.merge(
                ref.resource, ref.namespace, ref.name, excess, manager=self._manager
            ))  # fmt: skip
        if ref.subresource:
            now = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            wanted = timed(wanted, tree, now)
        answer = await self._request(ref, "apply", self._objects.apply(
            ref.resource, wanted, manager=self._manager, subresource=ref.subresource
        ))  # fmt: skip
        reverts, entry.reverts = entry.reverts, ()
        self._wrote(entry, answer)
        if drift(answer, wanted, exact=entry.exact, owned=self._owned):
            entry.lenient = manifest, _encode(_projected(answer, msgspec.json.decode(manifest)))
        self._settle(ref, entry, manifest)
        for before, after in transitions(wanted, tree) if ref.subresource else ():
            self._changed(Transition(ref, before, after))
        if reverts:
            self._say(
                NoticeKind.REVERTED, ref, f"was edited ({', '.join(reverts)}); it is as generated again"
            )
        return True

    async def _remove(self, ref: Ref, entry: _Entry) -> bool:
        live = entry.live
        if live is None:
            self._forget(ref)
            return True
        if ref.subresource:
            # What we no longer apply is taken away, what others wrote stays.
            self._spend(entry)
            manifest = {"metadata": {"namespace": ref.namespace, "name": ref.name}}
            await self._request(ref, "apply", self._objects.apply(
                ref.resource, manifest, manager=self._manager, subresource=ref.subresource
            ))  # fmt: skip
        elif not live.ours:
            self._taken(ref, entry)
        else:
            self._spend(entry)
            await self._request(ref, "delete", self._objects.delete(
                ref.resource, ref.namespace, ref.name, uid=live.uid
            ))  # fmt: skip
        if entry.wanted is None:
            self._forget(ref)
        else:
            entry.live, entry.known = None, False
        return True

    async def _get(self, ref: Ref) -> Observed | None:
        found = await self._request(ref, "get", self._objects.get(ref.resource, ref.namespace, ref.name))
        return None if found is None else _observed(found)

    async def _request(self, ref: Ref, verb: str, request: Any) -> Any:
        outcome = "error"
        try:
            answer = await request
            outcome = "ok"
        finally:
            self.counts[ref.resource.kind, verb, outcome] += 1
        return answer

    def _failed(self, ref: Ref, entry: _Entry, error: ApiError | ApiUnreachableError) -> None:
        status = error.status if isinstance(error, ApiError) else 0
        if ref.subresource and status == 404:
            entry.known, entry.live, entry.told = True, None, ""  # the object is gone
            if entry.wanted is None:
                self._forget(ref)
            return
        if status in {404, 409} and not ref.subresource:
            entry.known = False  # it is not what we took it for: look first
        if status in {0, 429, 500, 502, 503, 504}:
            # Not this object's fault: everything waits.
            self._failures += 1
            asked = error.retry_after if isinstance(error, ApiError) else 0.0
            pause = max(asked, retry_wait(self._failures - 1, self._random))
            self._paused_until = self._clock.monotonic() + pause
            log.warning(
                "api_server_not_written", object=str(ref), reason=str(error), retry_seconds=round(pause, 1)
            )
            self._enqueue(ref, entry)
            return
        self._later(ref, entry, str(error))

    def _later(self, ref: Ref, entry: _Entry, reason: str) -> bool:
        if entry.told != reason:
            entry.told = reason
            self._troubled.add(ref)
            self._say(NoticeKind.REFUSED, ref, reason)
        entry.failures += 1
        self._enqueue(ref, entry, retry_wait(entry.failures - 1, self._random))
        return False

    def _taken(self, ref: Ref, entry: _Entry) -> None:
        reason = "an object of this name exists and was not generated by peerd; rename or delete it"
        if entry.wanted is None:
            self._forget(ref)
        elif entry.told != reason:
            entry.told = reason
            self._troubled.add(ref)
            self._say(NoticeKind.TAKEN, ref, reason)

    def _say(self, kind: NoticeKind, ref: Ref, message: str) -> None:
        log.warning("object_not_as_wanted", notice=kind.value, object=str(ref), reason=message)
        self._tell(Notice(kind, ref, message))

    # -- bookkeeping -------------------------------------------------------------------------------------

    def _adopt(self, ref: Ref, entry: _Entry, observed: Observed | None, *, requeue: bool = True) -> None:
        """What the API server has, found to be as wanted or queued."""
        was_settled, was = entry.settled == entry.wanted, entry.live
        entry.known, entry.live, entry.settled = True, observed, None
        if observed is None and not entry.spoken:
            self._forget(ref)
            return
        if not entry.spoken:
            return
        if entry.wanted is None:
            if observed is None:
                self._forget(ref)
            elif requeue:
                self._enqueue(ref, entry)
            return
        if observed is None:
            if was_settled and was is not None and not ref.subresource:
                entry.reverts = ("deleted",)
        else:
            fields = self._drift(entry, observed.tree, entry.wanted)
            if not fields and (ref.subresource or observed.ours):
                self._settle(ref, entry, entry.wanted)
                return
            if was_settled and was is not None and was.uid == observed.uid:
                entry.reverts = fields
        if requeue:
            self._enqueue(ref, entry)

    def _as_wanted(self, ref: Ref, entry: _Entry, observed: Observed | None) -> bool:
        if observed is None or entry.wanted is None or not (ref.subresource or observed.ours):
            return False
        return not self._drift(entry, observed.tree, entry.wanted)

    def _drift(self, entry: _Entry, tree: Mapping[str, Any], manifest: bytes) -> tuple[str, ...]:
        wanted = msgspec.json.decode(manifest)
        fields = drift(tree, wanted, exact=entry.exact, owned=self._owned)
        if fields and entry.lenient == (manifest, _encode(_projected(tree, wanted))):
            return ()
        return fields

    def _settle(self, ref: Ref, entry: _Entry, manifest: bytes) -> None:
        """`live` is as *manifest* says; what was to be written for its sake need not be."""
        entry.settled = manifest
        if manifest == entry.wanted:
            entry.told, entry.failures = "", 0
            self._unqueue(entry)
        if entry.live is not None and not ref.subresource:
            # It is as wanted: the tree says nothing that the manifest does not.
            labels = {GENERATED_LABEL: GENERATED_VALUE} if entry.live.ours else {}
            entry.live = Observed(
                entry.live.uid, entry.live.resource_version, {"metadata": {"labels": labels}}
            )

    def _wrote(self, entry: _Entry, answer: Mapping[str, Any]) -> None:
        entry.live, entry.known = _observed(answer), True
        entry.expected = entry.live.resource_version
        entry.expected_until = self._clock.monotonic() + _ECHO_SECONDS

    def _spend(self, entry: _Entry) -> None:
        now = self._clock.monotonic()
        self._bucket.take(now)
        if entry.bucket is None:
            entry.bucket = Bucket(1 / _OBJECT_PAUSE, OBJECT_WRITES.value, now)
        entry.bucket.take(now)

    def _entry(self, ref: Ref) -> _Entry:
        entry = self._entries.get(ref)
        if entry is None:
            entry = self._entries[ref] = _Entry()
        return entry

    def _forget(self, ref: Ref) -> None:
        entry = self._entries.pop(ref, None)
        if entry is not None:
            self._unqueue(entry)

    def _enqueue(self, ref: Ref, entry: _Entry, wait: float = 0.0) -> None:
        """Bring *ref* to what is wanted in *wait* seconds, or when it may be written again."""
        now = self._clock.monotonic()
        if entry.bucket is not None:
            pause = entry.bucket.wait(now)
            if pause > wait:
                hit(OBJECT_WRITES)
                wait = pause
        self._unqueue(entry)
        self._turns += 1
        entry.turn = self._turns
        self._pending += 1
        self._idle.clear()
        if wait > 0:
            heapq.heappush(self._waiting, (now + wait, ref.sort_key, entry.turn, ref))
        else:
            self._push_ready(ref, entry)
        self._wake.set()

    def _unqueue(self, entry: _Entry) -> None:
        if entry.turn:
            entry.turn = 0
            self._pending -= 1
            self._wake.set()

    def _push_ready(self, ref: Ref, entry: _Entry) -> None:
        deletes = int(entry.wanted is None)
        order = -entry.order if deletes else entry.order
        heapq.heappush(self._ready, (deletes, order, ref.sort_key, entry.turn, ref))

    def _promote(self, now: float) -> None:
        """Move what is due from those that wait to those that are ready."""
        while self._waiting and self._waiting[0][0] <= now:
            *_, turn, ref = heapq.heappop(self._waiting)
            entry = self._entries.get(ref)
            if entry is None:
                continue
            if turn and turn == entry.turn:
                self._push_ready(ref, entry)
            elif not turn and entry.behind is not None and now >= entry.behind[1]:
                observed, entry.behind, entry.expected = entry.behind[0], None, ""
                self._adopt(ref, entry, observed)


def _observed(tree: Mapping[str, Any]) -> Observed:
    meta = tree.get("metadata") or {}
    return Observed(meta.get("uid", ""), meta.get("resourceVersion", ""), tree)


def _projected(tree: Any, wanted: Any) -> Any:
    """Of *tree* what *wanted* names."""
    if isinstance(wanted, Mapping) and isinstance(tree, Mapping):
        return {key: _projected(tree.get(key), value) for key, value in wanted.items()}
    return tree


def _until(entry: _Entry, version: str) -> float:
    """For how long an observation may be of before our own write."""
    return entry.expected_until if version else entry.expected_until - _ECHO_SECONDS + _BLIND_SECONDS


def _older(version: str, expected: str) -> bool:
    """Whether an observation is of before version *expected*; where it has none, it may be."""
    return not (version.isdigit() and expected.isdigit()) or int(version) < int(expected)
