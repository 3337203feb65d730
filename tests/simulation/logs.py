"""What peerd logs in a run: errors are violations, and nothing is printed."""

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from tests.simulation.guarantees import NO_ERRORS
from tests.simulation.history import Violation
from tests.simulation.loop import Process, current_process


@contextmanager
def watched_logs(
    fail: Callable[[BaseException], None], due: Callable[[Process | None, Mapping[str, Any]], bool]
) -> Iterator[None]:
    """Each error that is logged goes to *fail*, as a violation, unless it is *due* where it was logged."""
    before = structlog.get_config()

    def see(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in {"error", "exception", "critical"} and not due(current_process(), event):
            fail(Violation(NO_ERRORS, f"logged: {dict(event)}"))
        raise structlog.DropEvent

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fail(Violation(NO_ERRORS, f"logged: {record.getMessage()} {record.exc_info}"))

    handler = Handler(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    structlog.configure(processors=[see], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)
        root.removeHandler(handler)
