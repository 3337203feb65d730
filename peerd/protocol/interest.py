"""Who follows what on demand: an inverse index, so that a change finds its streams (decision D4)."""

from collections.abc import Iterable
from typing import Protocol

from peerd.model.resource import Resource


class Follower(Protocol):
    """A stream that follows single names."""

    def affected(self, type_url: str, token: str) -> None:
        """Something that *token* (a name, an alias or a group) stands for changed."""
        ...


class Change(Protocol):
    """A resource as a closed window left it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def old(self) -> Resource | None:
        """What it was."""
        ...

    @property
    def new(self) -> Resource | None:
        """What it is."""
        ...


class Interest:
    """Token -> followers, by type."""

    def __init__(self) -> None:
        self._followers: dict[tuple[str, str], set[Follower]] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def follow(self, type_url: str, token: str, follower: Follower) -> None:
        """Tell *follower* of changes to *token*."""
        self._followers.setdefault((type_url, token), set()).add(follower)

    def leave(self, type_url: str, tokens: Iterable[str], follower: Follower) -> None:
        """No longer."""
        for token in tokens:
            followers = self._followers.get((type_url, token))
            if followers is not None:
                followers.discard(follower)
                if not followers:
                    del self._followers[type_url, token]

    def publish(self, type_url: str, changes: Iterable[Change]) -> None:
        """Tell every follower what a closed window changed."""
        if not self._followers:
            return
        for change in changes:
            tokens = {change.name}
            for resource in (change.old, change.new):
                if resource is not None:
                    tokens.update(resource.alias_keys(), resource.groups)
            for token in tokens:
                for follower in self._followers.get((type_url, token), ()):
                    follower.affected(type_url, token)
