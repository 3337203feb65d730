"""Public bugs of others do not happen here, ours do not come back, and whoever lies is seen through."""

from pathlib import Path

import pytest

from tests.simulation.bounds import BOUNDS
from tests.simulation.clients import CLIENTS
from tests.simulation.disk_scenes import DISKS
from tests.simulation.found import FOUND
from tests.simulation.gauntlet import GAUNTLET
from tests.simulation.peer_edges import PEER_EDGES
from tests.simulation.scenarios import Scenario, play
from tests.simulation.story import make_ca
from tests.simulation.track_record import SCENARIOS


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


EVERY = (*SCENARIOS, *FOUND, *GAUNTLET, *CLIENTS, *PEER_EDGES, *BOUNDS, *DISKS)


@pytest.mark.parametrize("scenario", EVERY, ids=lambda scenario: scenario.name)
def test_what_happened_once_does_not_happen_here(scenario: Scenario, tmp_path: Path, ca: Path) -> None:
    history = play(scenario, tmp_path, ca)
    assert history.checks, "and somebody looked"


def test_every_case_has_a_name_of_its_own_and_a_line_on_what_happened() -> None:
    assert len({each.name for each in (*SCENARIOS, *FOUND)}) == len(SCENARIOS) + len(FOUND) >= 27
    assert len({each.name for each in EVERY}) == len(EVERY)
    assert all(each.what for each in EVERY)
