"""The recorder: which user used which verb on what, from the API server's audit log.

Users of the group system:masters (the tests themselves) and the API server's own loopback are left out.
"""

import json
from dataclasses import dataclass
from pathlib import Path

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, Panic]
rules:
  - {level: None, userGroups: [system:masters]}
  - {level: Metadata}
"""


@dataclass(frozen=True)
class Request:
    """One request. A watch appears when it begins and once more when it ends (`finished`)."""

    user: str
    verb: str
    group: str
    resource: str  # `pods`, `pods/status`; empty for a path that is no resource
    namespace: str
    name: str
    path: str
    status: int
    finished: bool

    @property
    def refused(self) -> bool:
        """Authentication or authorization said no."""
        return self.status in (401, 403)


class Audit:
    """Reads the audit log as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """A place in the log: only what comes later is given for `since`."""
        return self._path.stat().st_size if self._path.exists() else 0

    def requests(self, user: str = "", since: int = 0) -> list[Request]:
        """The requests of *user* (of all where empty) since a mark, in the order they were answered."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(since)
            lines = file.read().splitlines(keepends=True)
        found = [_request(json.loads(line)) for line in lines if line.endswith(b"\n")]
        return [each for each in found if not user or each.user == user]


def _request(event: dict[str, object]) -> Request:
    target, status, user = (event.get(name) or {} for name in ("objectRef", "responseStatus", "user"))
    assert isinstance(target, dict)
    assert isinstance(status, dict)
    assert isinstance(user, dict)
    resource, part = target.get("resource", ""), target.get("subresource", "")
    return Request(
        user=user.get("username", ""),
        verb=str(event["verb"]),
        group=target.get("apiGroup", ""),
        resource=f"{resource}/{part}" if part else resource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        path=str(event["requestURI"]),
        status=status.get("code", 0),
        finished=event["stage"] == "ResponseComplete",
    )
