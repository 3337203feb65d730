"""What lists and watches carry, as far as following them needs: which object, in which version."""

import msgspec

from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record
from peerd.model.sharing import shared

EXPIRED = 410
"""The version that a watch or a list began from is no longer known: as HTTP status, or in an ERROR event."""


class GarbledError(Exception):
    """A server sent what is no event, or no list; says what."""


class Head(Record, frozen=True):
    """Which object, and which state of it: `uid` and `resourceVersion`."""

    key: ObjectKey
    uid: str
    version: str


class Event(Record, frozen=True):
    """One line of a watch.

    `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR. A bookmark has only a version in `head`; `ends` on
    the one after which all that existed at the start has been sent. `code`, `message` and `retry_after` are
    those of an ERROR's Status.
    """

    type: str
    head: Head
    ends: bool = False
    code: int = 0
    message: str = ""
    retry_after: float = 0.0


class Page(Record, frozen=True):
    """One page of a list: `after` continues it, empty on the last. `version` is that of the whole list."""

    version: str
    after: str
    items: tuple[tuple[Head, msgspec.Raw], ...]


class _Annotations(Record, frozen=True):
    ends: str = msgspec.field(name="k8s.io/initial-events-end", default="")


class _Metadata(Record, frozen=True, rename="camel"):
    name: str = ""
    namespace: str | None = ""
    uid: str = ""
    resource_version: str = ""
    annotations: _Annotations | None = None


class _Details(Record, frozen=True, rename="camel"):
    retry_after_seconds: int = 0


class _Object(Record, frozen=True):
    """Any object; the fields of a Status are read only where it is one."""

    metadata: _Metadata = _Metadata()


class _Status(Record, frozen=True):
    code: int = 0
    message: str = ""
    reason: str = ""
    details: _Details | None = None


class _Line(Record, frozen=True):
    type: str
    object: _Object


class _ErrorLine(Record, frozen=True):
    object: _Status


class _ListMetadata(Record, frozen=True, rename="camel"):
    resource_version: str = ""
    after: str = msgspec.field(name="continue", default="")


class _List(Record, frozen=True):
    metadata: _ListMetadata
    items: tuple[msgspec.Raw, ...] | None = ()


_line = msgspec.json.Decoder(_Line)
_error_line = msgspec.json.Decoder(_ErrorLine)
_list = msgspec.json.Decoder(_List)
_object = msgspec.json.Decoder(_Object)


def read_event(line: bytes) -> Event:
    """The event that *line* is; raises GarbledError."""
    try:
        read = _line.decode(line)
        metadata = read.object.metadata
        if read.type == "ERROR":
            return _error(_error_line.decode(line).object)
        if read.type == "BOOKMARK":
            ends = metadata.annotations is not None and metadata.annotations.ends == "true"
            return Event(read.type, Head(_NOBODY, "", metadata.resource_version), ends)
        if read.type not in {"ADDED", "MODIFIED", "DELETED"}:
            raise GarbledError(f"an event of type {read.type!r}")
        return Event(read.type, _head(metadata))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = line[:60].decode(errors="replace")
        raise GarbledError(f"a line that is no event ({error}): {shown!r}") from error


def read_page(body: bytes) -> Page:
    """The page that *body* is; raises GarbledError."""
    try:
        read = _list.decode(body)
        items = tuple((_head(_object.decode(raw).metadata), raw) for raw in read.items or ())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GarbledError(f"an answer that is no list ({error})") from error
    if not read.metadata.resource_version:
        raise GarbledError("a list without resourceVersion")
    return Page(read.metadata.resource_version, read.metadata.after, items)


def order(version: str) -> int:
    """*version* as a number: greater is later. 0 where it is none, and so not comparable."""
    return int(version) if version.isdecimal() else 0


_NOBODY = ObjectKey("", "")


def _head(metadata: _Metadata) -> Head:
    if not metadata.name:
        raise GarbledError("an object without a name")
    return Head(
        ObjectKey(shared(metadata.namespace or ""), metadata.name), metadata.uid, metadata.resource_version
    )


def _error(status: _Status) -> Event:
    code = status.code or (EXPIRED if status.reason in {"Expired", "Gone"} else 500)
    retry_after = float(status.details.retry_after_seconds) if status.details is not None else 0.0
    message = f"{status.reason}: {status.message}".strip(": ")
    return Event("ERROR", Head(_NOBODY, "", ""), code=code, message=message, retry_after=retry_after)
