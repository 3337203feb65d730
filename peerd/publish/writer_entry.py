"""What the writer knows of one object: what is wanted, what there is, and whether the two agree."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from peerd.limits import OBJECT_WRITES
from peerd.model.generated import GENERATED_LABEL, GENERATED_VALUE
from peerd.publish.drift import drift, foreign
from peerd.publish.pace import Bucket
from peerd.publish.ref import Observed, Ref, observed

_ECHO_SECONDS = 30.0  # how long a watch may lag behind the answer to our own write
_BLIND_SECONDS = 5.0  # and one that tells no versions, whose lag looks like an edit
_OBJECT_PAUSE = 10.0  # seconds until an object that was written OBJECT_WRITES times may be written once more

encode = msgspec.json.Encoder(order="deterministic").encode
"""A manifest as it is kept and compared."""


class Entry:
    """One object. Times are monotonic; *owned* says whether only we write conditions of a type.

    *bucket* is what is left of its writes, where it was written, and forgotten, a moment ago.
    """

    __slots__ = (
        "_owned", "added", "behind", "bucket", "exact", "expected", "expected_until", "failures", "known",
        "lenient", "live", "look", "order", "ref", "reverts", "settled", "spoken", "told", "turn", "wanted",
    )  # fmt: skip

    def __init__(self, ref: Ref, owned: Callable[[str], bool], bucket: Bucket | None = None) -> None:
        self.ref = ref
        self._owned = owned
        self.spoken = False  # somebody said what they want of it
        self.wanted: bytes | None = None  # the manifest, as deterministic JSON
        self.order = 0
        self.exact = True
        self.known = False  # `live` is the API server's word
        self.live: Observed | None = None
        self.settled: bytes | None = None  # the manifest that `live` was found to be like
        self.lenient = (b"", b"")  # a manifest, and what the server made of it where that is not the same
        self.added = b""  # and the fields that it put in besides
        self.expected = ""  # the version our last write made, until it is observed
        self.expected_until = 0.0
        # Observed meanwhile, and older; and when it is believed all the same.
        self.behind: tuple[Observed | None, float] | None = None
        self.reverts: tuple[str, ...] = ()  # fields that somebody edited
        self.failures = 0
        self.turn = self.look = 0  # which entries of the queue are its own; 0: none
        self.told = ""  # the last refusal
        self.bucket = bucket  # made by the first write

    def drift(self, tree: Mapping[str, Any], manifest: bytes) -> tuple[str, ...]:
        """Fields in which *tree* is not as *manifest*, save what the server made of that manifest itself."""
        wanted = msgspec.json.decode(manifest)
        fields = drift(tree, wanted, exact=self.exact, owned=self._owned)
        if not fields or self.lenient != (manifest, encode(_projected(tree, wanted))):
            return fields
        return fields if self.exact and encode(foreign(tree, wanted)) != self.added else ()

    def is_as_wanted(self, found: Observed | None) -> bool:
        """Whether *found* is ours and as it should be."""
        if found is None or self.wanted is None or not (self.ref.subresource or found.ours):
            return False
        return not self.drift(found.tree, self.wanted)

    def settle(self, manifest: bytes) -> None:
        """`live` is as *manifest* says: its tree says nothing that the manifest does not."""
        self.settled = manifest
        if manifest == self.wanted:
            self.told, self.failures, self.reverts = "", 0, ()
        if self.live is not None and not self.ref.subresource:
            labels = {GENERATED_LABEL: GENERATED_VALUE} if self.live.ours else {}
            self.live = Observed(self.live.uid, self.live.resource_version, {"metadata": {"labels": labels}})

    def wrote(self, manifest: bytes, sent: Mapping[str, Any], answer: Mapping[str, Any], now: float) -> None:
        """*sent*, which is *manifest* with times, was applied, and *answer* is what the API server has."""
        self.live, self.known = observed(answer), True
        self.expected = self.live.resource_version
        self.expected_until = now + _ECHO_SECONDS
        if drift(answer, sent, exact=self.exact, owned=self._owned):
            self.lenient = manifest, encode(_projected(answer, msgspec.json.decode(manifest)))
            self.added = encode(foreign(answer, sent))

    def past_until(self, found: Observed | None, now: float) -> float:
        """Until when *found* may be of before our own last write, and so no news; 0 where it is news."""
        version = "" if found is None else found.resource_version
        until = self.expected_until if version else self.expected_until - _ECHO_SECONDS + _BLIND_SECONDS
        return until if now < until and _older(version, self.expected) else 0.0

    def spend(self, now: float) -> None:
        """It is written now."""
        if self.bucket is None:
            self.bucket = Bucket(1 / _OBJECT_PAUSE, OBJECT_WRITES.value, now)
        self.bucket.take(now)

    def pause(self, now: float) -> float:
        """Seconds until it may be written again."""
        return 0.0 if self.bucket is None else self.bucket.wait(now)


def _projected(tree: Any, wanted: Any) -> Any:
    """Of *tree* what *wanted* names."""
    if isinstance(wanted, Mapping) and isinstance(tree, Mapping):
        return {key: _projected(tree.get(key), value) for key, value in wanted.items()}
    return tree


def _older(version: str, expected: str) -> bool:
    """Whether an observation is of before version *expected*; where it has none, it may be."""
    return not (version.isdigit() and expected.isdigit()) or int(version) < int(expected)
