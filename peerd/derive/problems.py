"""Diagnostics, made in one way for all kinds."""

from collections.abc import Iterable

from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.kinds import KINDS_BY_NAME
from peerd.model.kube.meta import KubeObject, ObjectKey


def name_of(kind: str, obj: KubeObject) -> str:
    """`<Kind>/<namespace>/<name>`, as `Diagnostic.object` wants it."""
    return f"{kind}/{obj.key}"


def error(obj: str, field: str, message: str, fix: str) -> Diagnostic:
    """Something is not served because of *field*."""
    return Diagnostic(obj, field, message, fix)


def warning(obj: str, field: str, message: str, fix: str) -> Diagnostic:
    """Something is served, but hardly as meant."""
    return Diagnostic(obj, field, message, fix, Severity.WARNING)


def keyed(diagnostics: Iterable[Diagnostic], topic: str = "") -> dict[str, Diagnostic]:
    """Diagnostics under keys that stay equal as long as the problem does: object and field.

    *topic* keeps apart what several collections may say of one field.
    """
    prefix = f"{topic} " if topic else ""
    return {f"{prefix}{diagnostic.object}: {diagnostic.field}": diagnostic for diagnostic in diagnostics}


def is_named(kind: str, key: ObjectKey) -> bool:
    """Whether an object has the names of its kind; resource names are made of them, joined by slashes."""
    if not key.name or "/" in key.name or "/" in key.namespace:
        return False
    return bool(key.namespace) or kind not in KINDS_BY_NAME or not KINDS_BY_NAME[kind].namespaced


def misnamed(kind: str, key: ObjectKey) -> Diagnostic:
    """What to tell of an object that has them not."""
    field = "metadata.name" if not key.name or "/" in key.name else "metadata.namespace"
    return error(
        f"{kind}/{key}", field, "is missing or holds a slash", "give it a DNS label; it is not served"
    )


def fault(table: str, key: object, problem: Exception) -> Diagnostic:
    """What to tell where derivation itself raised: the object is not served, all others are."""
    return error(
        f"{table}/{key}",
        "(whole object)",
        f"could not be derived: {type(problem).__name__}: {problem}",
        "this is a fault of peerd: please report it, with the object",
    )
