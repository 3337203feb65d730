"""What checks against the truth have in common (client_checks.py, peer_checks.py)."""

from dataclasses import dataclass

from tests.simulation.history import History
from tests.simulation.replica import Replica
from tests.simulation.truth import Truth


@dataclass(frozen=True)
class Run:
    """What one run's checks look at; `expiry` is of the link from one cluster to another, in seconds."""

    history: History
    truth: Truth
    replicas: dict[str, Replica]
    expiry: dict[tuple[str, str], int]


class Checks:
    """Checks of one run against its truth, since the last quiet moment."""

    def __init__(self, run: Run) -> None:
        self._history = run.history
        self._truth = run.truth
        self._replicas = run.replicas
        self._expiry = run.expiry
        self.quiet_at = 0.0
        self.armed = False  # from the first quiet moment on
