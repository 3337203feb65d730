"""Which objects of one kind a follower has told, in which version: what a new list is compared with.

Per object one name and one number are kept, not the object: 50,000 of them are a few megabytes.
"""

from enum import Enum, auto

from peerd.kubeapi.lists import Head, order
from peerd.model.kube.meta import ObjectKey

_UID_BITS = 64
_UID_MASK = (1 << _UID_BITS) - 1


class Word(Enum):
    """What an event or an item of a list is to us."""

    NEWS = auto()
    KNOWN = auto()  # told already, or something newer is
    UNPLACED = auto()  # out of order, and of an object that we do not have: may be new, may be gone


class Known:
    """The objects of one kind.

    A watch tells events in the order of their versions, so that the last one heard is where a new watch goes
    on. What comes out of order (a broken proxy, a bug) is put in its place by the versions of single objects;
    where even that cannot be done it is `UNPLACED`, and only a new list helps.

    A list is the truth whatever its versions say: those of a cluster that was restored from a backup are
    lower. While one is taken, `note` remembers what was in it; `missing` is what is gone.
    """

    def __init__(self) -> None:
        self._stamps: dict[ObjectKey, int] = {}
        self._noted: set[ObjectKey] | None = None
        self.version = ""
        """Where a watch goes on; empty where only a list can tell."""

    def __len__(self) -> int:
        return len(self._stamps)

    # -- a list ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A list begins."""
        self._noted = set()
        self.version = ""

    def note(self, head: Head) -> Word:
        """An object of the list; afterwards it is known."""
        assert self._noted is not None  # noqa: S101 (between `begin` and `complete`)
        self._noted.add(head.key)
        stamp = _stamp(head)
        if self._stamps.get(head.key) == stamp:
            return Word.KNOWN
        self._stamps[head.key] = stamp
        return Word.NEWS

    def unnote(self, key: ObjectKey) -> None:
        """An object was deleted while the list was still being taken."""
        assert self._noted is not None  # noqa: S101 (between `begin` and `complete`)
        self._noted.discard(key)

    @property
    def missing(self) -> list[ObjectKey]:
        """Known objects that the list has not named so far."""
        noted = self._noted if self._noted is not None else self._stamps.keys()
        return [key for key in self._stamps if key not in noted]

    def complete(self, version: str) -> None:
        """The list was complete, as of *version*; what was missing is known no more."""
        for key in self.missing:
            del self._stamps[key]
        self._noted = None
        self.version = version

    def forget(self) -> None:
        """Nothing is where we thought; the next list decides. What is known stays known."""
        self._noted = None
        self.version = ""

    # -- a watch -----------------------------------------------------------------------------------------

    def put(self, head: Head) -> Word:
        """An object was added or modified; afterwards it is known, unless it is unplaced."""
        stamp, held = _stamp(head), self._stamps.get(head.key)
        version = stamp >> _UID_BITS
        if held is not None and (stamp == held or (version and version <= held >> _UID_BITS)):
            return Word.KNOWN
        if held is None and version and version <= order(self.version):
            return Word.UNPLACED
        self._stamps[head.key] = stamp
        self.advance(head.version)
        return Word.NEWS

    def delete(self, head: Head) -> Word:
        """An object was deleted; afterwards it is not known."""
        held = self._stamps.get(head.key)
        version = order(head.version)
        if held is not None and version and version < held >> _UID_BITS:
            return Word.KNOWN  # an older one of its name; it was made again since
        self.advance(head.version)
        if held is None:
            return Word.KNOWN
        del self._stamps[head.key]
        return Word.NEWS

    def advance(self, version: str) -> None:
        """Everything up to *version* has been heard."""
        if order(version) >= order(self.version):
            self.version = version


def _stamp(head: Head) -> int:
    version = order(head.version)
    # A version that is no number still tells one state from another.
    told = hash(head.uid) if version else hash((head.uid, head.version))
    return version << _UID_BITS | told & _UID_MASK
