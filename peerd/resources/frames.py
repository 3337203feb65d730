"""Responses joined from the frames that resources carry; nothing is serialised per stream."""

from collections.abc import Iterable, Iterator

from peerd.model.frame import Frame
from peerd.model.resource import Resource
from peerd.model.wire import field, with_fields

_SYSTEM_VERSION, _TYPE_URL, _NONCE, _REMOVED = 1, 4, 5, 6
_ALIASES = 4  # of Resource


class FrameWriter:
    """Writes the responses of one type; *limit* bounds a message, longer answers come in several."""

    def __init__(self, type_url: str, instance: str, limit: int) -> None:
        self._type = field(_TYPE_URL, type_url.encode())
        self._instance = instance
        self._limit = limit

    def write(
        self, span: str, revision: int, resources: Iterable[bytes], removals: Iterable[str]
    ) -> tuple[Frame, ...]:
        """At least one response with *resources* (frames) and *removals*; `span` names it in the nonce."""
        head = field(_SYSTEM_VERSION, f"{self._instance}/{revision}".encode())
        fields = [field(_REMOVED, name.encode()) for name in removals]
        chunks = list(self._chunks(resources, fields))
        frames = []
        for index, (count, body) in enumerate(chunks):
            nonce = f"{self._instance}-{span}" + (f"-{index}" if index else "")
            message = b"".join((head, *body, self._type, field(_NONCE, nonce.encode())))
            frames.append(Frame(nonce, message, revision, count, len(body) - count))
        return tuple(frames)

    def _chunks(self, resources: Iterable[bytes], removals: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
        body = list(resources)
        count = len(body)
        body += removals
        total = sum(map(len, body))
        if total <= self._limit:
            yield count, body
            return
        start = size = 0
        for index, part in enumerate(body):
            if size and size + len(part) > self._limit:
                yield max(0, min(count, index) - start), body[start:index]
                start, size = index, 0
            size += len(part)
        yield max(0, count - start), body[start:]


def with_aliases(resource: Resource) -> bytes:
    """The resource's frame with its aliases, as on-demand answers carry them (wire-contract §2.2)."""
    return with_fields(
        resource.frame, b"".join(field(_ALIASES, alias.encode()) for alias in resource.alias_keys())
    )
