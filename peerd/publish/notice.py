"""What the writer tells (peerd/publish/writer.py)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from peerd.model.record import Record
from peerd.publish.ref import Ref


class NoticeKind(StrEnum):
    """What happened to an object."""

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
