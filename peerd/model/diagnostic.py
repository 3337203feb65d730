"""A problem in what a user wrote, told where its owner looks."""

from enum import StrEnum

from peerd.model.record import Record


class Severity(StrEnum):
    """ERROR: the object, or that part of it, is not served. WARNING: it is, but hardly as meant."""

    ERROR = "error"
    WARNING = "warning"


class Diagnostic(Record, frozen=True, order=True):
    """One problem: which object, which field, what is wrong, and how to mend it.

    `object` is `<Kind>/<namespace>/<name>` (or `<Kind>/<name>`), `field` a path such as `spec.addresses[0]`,
    `where` the file or API server it came from, empty where that adds nothing.
    """

    object: str
    field: str
    message: str
    fix: str
    severity: Severity = Severity.ERROR
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.object}: {self.field}: {self.message}; {self.fix}"
