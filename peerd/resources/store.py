"""The resource store: what every stream is served from.

Changes are *staged* in slices, *committed* as one revision over all types, and *published* when the merge
window that the first commit opened closes (decisions D4, D10). Streams only ever see closed windows, so a
cursor is one integer and streams at the same cursor share the same bytes.
"""

from collections.abc import Callable, Generator, Iterable, Mapping

from peerd.limits import CHANGE_LOG_NAMES, RESPONSE_BYTES, hit
from peerd.model.frame import Frame
from peerd.model.resource import Resource, ResourceChange
from peerd.model.steps import whole
from peerd.resources.changelog import ChangeLog
from peerd.resources.collection import Collection, Published
from peerd.resources.frames import FrameWriter


class UnknownTypeError(KeyError):
    """A change or a question names a type URL that the store does not hold."""


class ResourceStore:
    """Resources of the given types, their published state and its change log.

    `instance` goes into nonces and `system_version_info`; it is one process run's own (decision D24).
    """

    def __init__(
        self,
        types: Iterable[str],
        instance: str,
        *,
        log_names: int = CHANGE_LOG_NAMES.value,
        response_bytes: int = RESPONSE_BYTES.value,
    ) -> None:
        self._collections = {
            url: Collection(url, FrameWriter(url, instance, response_bytes), ChangeLog(log_names))
            for url in types
        }
        self._staged: dict[str, dict[str, Resource | None]] = {url: {} for url in self._collections}
        self._committed: dict[str, dict[str, Resource | None]] = {url: {} for url in self._collections}
        self._closing: dict[str, dict[str, Resource | None]] = {url: {} for url in self._collections}
        self._head = 0
        self._closing_head = 0
        self._published = 0
        self._response_bytes = response_bytes
        self._on_open: list[Callable[[], None]] = []

    @property
    def types(self) -> tuple[str, ...]:
        """The type URLs, as given."""
        return tuple(self._collections)

    @property
    def head(self) -> int:
        """The newest committed revision."""
        return self._head

    @property
    def revision(self) -> int:
        """The revision of the last closed window: what streams see."""
        return self._published

    @property
    def open(self) -> bool:
        """Whether a merge window is open."""
        return self._head > self._closing_head

    def when_opened(self, callback: Callable[[], None]) -> None:
        """Call *callback* whenever a commit opens a window."""
        self._on_open.append(callback)

    def collection(self, type_url: str) -> Collection:
        """The published resources of one type.

        Raises:
            UnknownTypeError: the store holds no such type.
        """
        try:
            return self._collections[type_url]
        except KeyError:
            raise UnknownTypeError(type_url) from None

    def stage(self, changes: Iterable[ResourceChange]) -> None:
        """Gather changes that the next commit makes; nobody sees them before.

        Raises:
            UnknownTypeError: a change names a type the store does not hold; those before it stay staged.
        """
        for change in changes:
            self._stage(change)

    def commit(self, changes: Iterable[ResourceChange] = ()) -> int:
        """Stage *changes*, then make all that is staged one revision; returns it.

        Where nothing differs from what is there, the revision stays.

        Raises:
            UnknownTypeError: as `stage`; nothing is committed.
        """
        self.stage(changes)
        changed = False
        for url, staged in self._staged.items():
            if self._differs(url, staged):
                changed = True
                self._merge(url, staged)
            staged.clear()
        if changed:
            opens = not self.open
            self._head += 1
            if opens:
                for callback in self._on_open:
                    callback()
        return self._head

    def advance(self, revision: int) -> None:
        """Let the next window end at *revision* or later though less has changed here.

        Stores of which a client may see now one, now another count alike, so that its revisions only grow.
        """
        self._head = max(self._head, revision)

    def close_window(self) -> Mapping[str, tuple[Published, ...]]:
        """`closing`, at once."""
        return whole(self.closing())

    def closing(self) -> Generator[None, None, Mapping[str, tuple[Published, ...]]]:
        """Publish what was committed: worked out in slices, made visible as one at the end.

        To be run to its end, one at a time; what is committed meanwhile belongs to the next window. Returns
        what truly changed, by type: nothing where no window is open.
        """
        self._closing_head = self._head
        self._closing, self._committed = self._committed, {url: {} for url in self._collections}
        prepared = {}
        for url, collection in self._collections.items():
            prepared[url] = yield from collection.prepare(self._closing[url])
        self._published = self._closing_head
        changes = {}
        for url, collection in self._collections.items():
            coming = (self._staged[url], self._committed[url])
            if published := collection.publish(self._published, prepared[url], coming):
                changes[url] = published
        self._closing = {url: {} for url in self._collections}
        return changes

    @property
    def gathered(self) -> int:
        """How many names the open window has gathered."""
        return sum(map(len, self._committed.values()))

    def snapshot(self, type_url: str) -> tuple[Frame, ...]:
        """`Collection.snapshot`; an answer past the message limit is counted."""
        frames = self.collection(type_url).snapshot()
        if len(frames) > 1:
            hit(RESPONSE_BYTES)
        return frames

    def forget_frames(self) -> None:
        """Free the shared frames of all types."""
        for collection in self._collections.values():
            collection.forget_frames()

    def _stage(self, change: ResourceChange) -> None:
        url, name, resource = change.type_url, change.name, change.resource
        collection, staged = self.collection(url), self._staged[url]
        committed, closing = self._committed[url], self._closing[url]
        if resource is not None:
            collection.index(resource)
        collection.unindex(staged.get(name), resource, committed.get(name), closing.get(name))
        gathered = name in committed or name in closing
        if resource is not None and not gathered and collection.holds(resource):
            staged.pop(name, None)  # what is already there; takes back what may have been staged
        else:
            staged[name] = resource

    def _merge(self, url: str, staged: Mapping[str, Resource | None]) -> None:
        committed, collection = self._committed[url], self._collections[url]
        if committed:
            for name in committed.keys() & staged.keys():
                collection.unindex(committed[name], staged[name], self._closing[url].get(name))
        committed.update(staged)

    def _differs(self, url: str, staged: Mapping[str, Resource | None]) -> bool:
        committed, closing, collection = self._committed[url], self._closing[url], self._collections[url]
        for name, resource in staged.items():
            if name in committed:
                present = committed[name]
            else:
                present = closing[name] if name in closing else collection.get(name)
            if (resource and resource.frame) != (present and present.frame):
                return True
        return False
