"""What an API server refuses."""

import msgspec

from peerd.kubeapi.base import Response
from peerd.model.record import Record


class _Status(Record, frozen=True):
    """`metav1.Status`, as far as it is shown or decided upon."""

    message: str = ""
    reason: str = ""


class ApiError(Exception):
    """The API server refused.

    `status` is the HTTP status, `reason` the machine's word (`NotFound`, `Conflict`, `Expired`, ...; empty
    where the answer was no Status), `retry_after` the seconds it asked to wait.
    """

    def __init__(self, what: str, response: Response) -> None:
        try:
            status = msgspec.json.decode(response.body, type=_Status)
        except msgspec.DecodeError:
            status = _Status(message=response.body[:200].decode(errors="replace"))
        super().__init__(f"{what}: {response.status} {status.reason}: {status.message}".rstrip(": "))
        self.status = response.status
        self.reason = status.reason
        self.retry_after = response.retry_after
