"""How one type is served: what a service says of its types, so that the machine knows none of them."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from peerd.model.record import Record
from peerd.model.resource import Resource
from peerd.protocol.envelope import Node


class Offer(Enum):
    """What a first request's versions turn out to be."""

    NONE = "none"  # versions, or nothing: the ordinary resume
    EQUAL = "equal"  # a digest, and it is ours: nothing needs to move
    WANTED = "wanted"  # a digest, and it is not ours: the versions are wanted


class Resume(Protocol):
    """Resume by digest (decision D18), where a service has it."""

    def judge(self, type_url: str, versions: Sequence[bytes]) -> Offer:
        """What *versions*, entries of `initial_resource_versions`, are."""
        ...

    def notice(self, type_url: str, offer: Offer) -> bytes:
        """The resource frame that closes a first answer, or, for WANTED, is the whole of it."""
        ...


class Withheld(Protocol):
    """What a client is told nothing about, as long as this says so; all of a type URL and a name."""

    def active(self) -> bool:
        """Whether there is anything of the sort now: most of the time there is not."""
        ...

    def __call__(self, type_url: str, name: str, /) -> bool:
        """Whether a resuming client that holds it, in another version or though it is gone, is not told."""
        ...

    def definition(self, type_url: str, name: str, /) -> object:
        """What it is by this cluster's own word, None for nothing: another word is told at once."""
        ...

    def lingers(self, type_url: str, name: str, /) -> bool:
        """Whether no client is told that it is gone, though it has just been removed."""
        ...


View = Callable[[Resource], Resource]
"""What one client is told instead of a resource, under the same name; equal views tell the same."""


class _Nothing:
    """`Withheld` of types of which every client is told everything."""

    def active(self) -> bool:
        return False

    def __call__(self, _type_url: str, _name: str, /) -> bool:
        return False

    def definition(self, _type_url: str, _name: str, /) -> object:
        return None

    def lingers(self, _type_url: str, _name: str, /) -> bool:
        return False


NOTHING_WITHHELD: Withheld = _Nothing()


class TypeRules(Record, frozen=True, gc=True):
    """How one type is served.

    `waits_for_ack`: at most one wildcard response is outstanding; what changes meanwhile is merged into the
    next. `puts_after`: a type whose resources of the same revision go first; where the client has not asked
    for it `patience` seconds after asking for this one, it is not waited for. `removals_after`: removals go
    in responses of their own, once the client has ACKed the revision of that type which caused them (both:
    decision D8). `own_groups`: groups that a client without the wildcard follows by itself (decision D12);
    `own_only`: it gets these and nothing else, whatever it asks for (decision D37).
    `member_groups`: groups that a client which holds a name follows with it. `withheld` says what a client is
    not told for now (decision D13). `resume` is the digest hook of peers. `view` gives how the names that a
    client asked for look to it, None for as they are; another view is noticed at the next `review`.

    Unlike other records it holds what may lead back to it, and takes part in garbage collection.
    """

    waits_for_ack: bool = True
    puts_after: str = ""
    removals_after: str = ""
    patience: float = 1.0
    own_groups: Callable[[Node], tuple[str, ...]] | None = None
    own_only: bool = False
    member_groups: Callable[[str], tuple[str, ...]] | None = None
    withheld: Withheld = NOTHING_WITHHELD
    resume: Resume | None = None
    view: Callable[[Node], View | None] | None = None
