"""Diagnostics, made in one way for all kinds."""

from collections.abc import Iterable

from peerd.model.diagnostic import Diagnostic, Severity
from peerd.model.kube.meta import KubeObject


def name_of(kind: str, obj: KubeObject) -> str:
    """`<Kind>/<namespace>/<name>`, as `Diagnostic.object` wants it."""
    return f"{kind}/{obj.key}"


def error(obj: str, field: str, message: str, fix: str) -> Diagnostic:
    """Something is not served because of *field*."""
    return Diagnostic(obj, field, message, fix)


def warning(obj: str, field: str, message: str, fix: str) -> Diagnostic:
    """Something is served, but hardly as meant."""
    return Diagnostic(obj, field, message, fix, Severity.WARNING)


def keyed(diagnostics: Iterable[Diagnostic]) -> dict[str, Diagnostic]:
    """Diagnostics under keys that stay equal as long as the problem does: object and field."""
    return {f"{diagnostic.object}: {diagnostic.field}": diagnostic for diagnostic in diagnostics}
