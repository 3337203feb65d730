"""Derive a few objects written as YAML, and look at the records."""

import textwrap

from peerd.model.changes import Change
from peerd.model.diagnostic import Diagnostic
from peerd.model.mesh import Settings
from peerd.model.service import Service
from peerd.model.workload import Workload
from tests.support.golden import changes
from tests.support.worlds import Seen, from_scratch


def derive(text: str, *more: Change, settings: Settings | None = None) -> Seen:
    """What the objects of a multi-document YAML text, and *more* changes, come to."""
    return from_scratch([*changes(textwrap.dedent(text).encode()), *more], settings)


def workload(seen: Seen, name: str) -> Workload:
    """The one workload whose name is *name*."""
    found = [r for r in seen.parts["addresses"].values() if isinstance(r, Workload) and r.name == name]
    assert len(found) == 1, [record.uid for record in found]
    return found[0]


def service(seen: Seen, name: str) -> Service:
    """The service of resource name *name*."""
    found = seen.parts["addresses"][name]
    assert isinstance(found, Service)
    return found


def diagnostics(seen: Seen) -> list[Diagnostic]:
    """All diagnostics, in order."""
    return sorted(seen.parts["diagnostics"].values())
