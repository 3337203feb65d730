"""Every scenario beside this file: the right answers, the reviewed view of each cluster, in any order.

The language is described in tests/support/scenarios.py. Ztunnel's rules hold after every change, too:
`Cluster` sees to it.
"""

from pathlib import Path

import pytest
import yaml

from tests.support.scenarios import Scenario

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
VIEWS = HERE / "views"


@pytest.fixture(scope="session")
def refresh(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--refresh-views", default=False))


@pytest.mark.parametrize("name", NAMES)
def test_scenario(name: str, refresh: bool) -> None:
    """Who answers is as the file says, and each cluster's view as it was reviewed."""
    scenario = Scenario(HERE / f"{name}.yaml")
    wrong: list[str] = []
    views = {}
    for step, answers, changed in scenario.steps():
        wrong += [f"{step}: {answer}" for answer in answers]
        views[step] = changed
    assert wrong == []
    expected = VIEWS / f"{name}.yaml"
    if refresh:
        VIEWS.mkdir(exist_ok=True)
        text = yaml.safe_dump(views, sort_keys=False, width=110, allow_unicode=True)
        expected.write_text(text, "utf-8")
    assert views == yaml.safe_load(expected.read_text("utf-8"))
    for cluster, fresh in scenario.afresh().items():
        played = scenario.clusters[cluster]
        assert fresh.addresses == played.addresses, f"{cluster}: the order of events shows"
        assert fresh.exports == played.exports
        assert fresh.diagnostics == played.diagnostics
