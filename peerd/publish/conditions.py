"""Conditions: one statement about an object, and how statements become a status."""

from collections.abc import Iterable
from typing import Any

from peerd.limits import STATUS_MESSAGE_CHARACTERS, hit
from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.meta import StatusCondition
from peerd.model.record import Record

PROBLEM = "peering.peerd.io/Problem"
"""True while something that the object's owner wrote is not served, or hardly as meant; absent otherwise."""


class Condition(Record, frozen=True):
    """`status` is `True`, `False` or `Unknown`, `reason` one CamelCase word, `message` for people."""

    type: str
    status: str
    reason: str
    message: str = ""


def yes(kind: str, reason: str, message: str = "") -> Condition:
    """It is so."""
    return Condition(kind, "True", reason, message)


def no(kind: str, reason: str, message: str = "") -> Condition:
    """It is not so."""
    return Condition(kind, "False", reason, message)


def problem(diagnostics: Iterable[Diagnostic]) -> tuple[Condition, ...]:
    """One condition for all diagnostics of an object, errors first; none where there are none."""
    found = sorted(diagnostics, key=lambda each: (each.severity is not Severity.ERROR, each))
    if not found:
        return ()
    reason = "NotServed" if found[0].severity is Severity.ERROR else "NotAsMeant"
    text = " | ".join(f"{each.field}: {each.message}; {each.fix}" for each in found)
    return (yes(PROBLEM, reason, text),)


def shortened(message: str) -> str:
    """*message*, cut where it is longer than anybody reads."""
    most = STATUS_MESSAGE_CHARACTERS.value
    if len(message) <= most:
        return message
    hit(STATUS_MESSAGE_CHARACTERS)
    return message[: most - 1] + "…"


def status_tree(conditions: Iterable[Condition], generation: int) -> list[dict[str, Any]]:
    """`status.conditions` as it is written, by type; the writer adds times of transition.

    *generation* 0: objects of the kind have none.
    """
    of = {"observedGeneration": generation} if generation else {}
    return [
        {
            "type": each.type,
            "status": each.status,
            "reason": each.reason,
            "message": shortened(each.message),
            **of,
        }
        for each in sorted(conditions, key=lambda found: found.type)
    ]


def observed_tree(conditions: Iterable[StatusCondition]) -> list[dict[str, Any]]:
    """`status.conditions` as the API server has it."""
    return [
        {
            "type": each.type,
            "status": each.status,
            "reason": each.reason,
            "message": each.message,
            "observedGeneration": each.observed_generation,
            "lastTransitionTime": each.last_transition_time,
        }
        for each in conditions
    ]
