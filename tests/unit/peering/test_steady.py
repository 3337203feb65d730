"""D20, message by message: what Pods that come and go make a peer hear."""

import msgspec
import pytest

from peerd.model.address import Locality
from peerd.model.federation import Capacity, FederatedService
from peerd.peering.steady import Steady


def service(healthy: int, **fields: object) -> FederatedService:
    made = FederatedService(
        "reviews",
        "shop",
        "reviews.shop.mesh.internal",
        "reviews.shop.svc.cluster.local",
        capacity=(Capacity("net", Locality("r", "z", ""), healthy),) if healthy else (),
    )
    return msgspec.structs.replace(made, **fields)  # type: ignore[arg-type]


NAME = "shop/reviews"


class Exporter:
    """Runs the machine over virtual seconds and notes (second, healthy) of each message; None: a removal."""

    def __init__(self, healthy: int) -> None:
        self.steady = Steady()
        self.now = 0.0
        self.said: list[tuple[float, int | None]] = []
        self.put(healthy)
        self.said.clear()

    def put(self, healthy: int | None) -> None:
        self.note(self.steady.put([(NAME, None if healthy is None else service(healthy))], self.now))

    def note(self, announcements: list[tuple[str, FederatedService | None]]) -> None:
        for name, said in announcements:
            assert name == NAME
            total = None if said is None else sum(c.healthy for c in said.capacity)
            self.said.append((self.now, total))

    def at(self, second: float) -> None:
        """Let time pass, as whoever drives the machine does: it wakes at `next_due`."""
        while (due := self.steady.next_due()) is not None and due <= second:
            self.now = max(self.now, due)
            self.note(self.steady.due(self.now))
        self.now = second

    def play(self, *steps: tuple[float, int | None], until: float = 200.0) -> list[tuple[float, int | None]]:
        for second, healthy in steps:
            self.at(second)
            self.put(healthy)
        self.at(until)
        return self.said


GAPS = [1, 2, 3, 4, 4.9]
LONG = [5.1, 8, 20]


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("gap", GAPS)
def test_a_surge_first_replacement_within_5_seconds_says_nothing(n: int, gap: float) -> None:
    assert Exporter(n).play((10, n + 1), (10 + gap, n)) == []


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("gap", LONG)
def test_a_surge_that_lasts_is_said_after_5_seconds_and_taken_back_as_its_size_demands(
    n: int, gap: float
) -> None:
    """n+1 back to n is a loss of a quarter or more up to n = 3, so it is said at once."""
    assert Exporter(n).play((10, n + 1), (10 + gap, n)) == [(15, n + 1), (10 + gap, n)]


@pytest.mark.parametrize("gap", LONG)
def test_a_surge_of_one_in_fifty_that_lasts_is_said_and_taken_back_after_5_seconds_each(gap: float) -> None:
    assert Exporter(50).play((10, 51), (10 + gap, 50)) == [(15, 51), (15 + gap, 50)]


@pytest.mark.parametrize("gap", [*GAPS, *LONG])
def test_drain_first_at_one_says_that_nothing_is_left_and_that_it_is_back_at_once(gap: float) -> None:
    assert Exporter(1).play((10, 0), (10 + gap, 1)) == [(10, 0), (10 + gap, 1)]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("gap", [*GAPS, *LONG])
def test_drain_first_up_to_four_says_the_loss_at_once_and_the_gain_after_5_seconds(
    n: int, gap: float
) -> None:
    assert Exporter(n).play((10, n - 1), (10 + gap, n)) == [(10, n - 1), (15 + gap, n)]


@pytest.mark.parametrize("n", [5, 50])
@pytest.mark.parametrize("gap", GAPS)
def test_drain_first_from_five_on_within_5_seconds_says_nothing(n: int, gap: float) -> None:
    assert Exporter(n).play((10, n - 1), (10 + gap, n)) == []


def test_a_rollout_one_by_one_is_said_at_the_latest_after_30_seconds() -> None:
    """A change every 2 s never rests for 5 s; the bound counts from the first that was not announced."""
    steps = [(10.0 + 2 * k, 50 + 1 + (k % 2)) for k in range(30)]
    said = Exporter(50).play(*steps)
    assert [second for second, _ in said][:1] == [40.0]
    assert said[-1] == (steps[-1][0] + 5, steps[-1][1])


def test_losses_add_up_against_what_was_announced_not_against_the_last_change() -> None:
    """8 -> 7 is an eighth, 7 -> 6 a seventh; together they are a quarter of what peers believe."""
    assert Exporter(8).play((10, 7), (11, 6)) == [(11, 6)]


def test_identity_changes_are_said_at_once_with_whatever_capacity_is_there() -> None:
    exporter = Exporter(10)
    exporter.at(10)
    exporter.put(11)
    exporter.at(11)
    changed = service(11, identities=("spiffe://td/ns/shop/sa/new",))
    assert exporter.steady.put([(NAME, changed)], 11.0) == [(NAME, changed)]
    assert exporter.steady.due(100.0) == []


def test_a_first_definition_and_a_removal_are_said_at_once_and_a_removal_only_once() -> None:
    steady = Steady()
    assert steady.put([(NAME, service(0))], 0.0) == [(NAME, service(0))]
    assert steady.put([(NAME, None), (NAME, None)], 1.0) == [(NAME, None)]
    assert steady.put([("never/said", None)], 1.0) == []
    assert steady.next_due() is None


def test_a_removal_forgets_what_was_waiting() -> None:
    steady = Steady()
    steady.put([(NAME, service(10))], 0.0)
    steady.put([(NAME, service(11))], 1.0)
    steady.put([(NAME, None)], 2.0)
    assert steady.due(100.0) == []
