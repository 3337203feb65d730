"""What is to be shown is shown: every feature, fault and ask has its scenarios, and the index names them."""

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
INDEX = tomllib.loads((HERE / "coverage.toml").read_text("utf-8"))
SCENARIOS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in HERE.glob("*.yaml")}

ROWS = [f"row {number}" for number in range(7, 15)]
BULLETS = [
    "scope", "names", "takeover", "segments", "endpoints", "failover", "identity", "waypoints", "conflicts",
    "topologies", "internalTrafficPolicy", "locality of a peer", "Any", "PreferClose", "PreferNetwork",
    "PreferRegion", "PreferSameNode", "PreferSameZone",
]  # fmt: skip
DECISIONS = [f"D{number}" for number in (21, 23, *range(25, 33))]
# Faults that users of the commercial product report. Not derivation's: subsets (one service per version is
# the way), mixing `link` with Helm, `check` in one namespace, scattered documents.
FAULTS = [
    "network mismatch", "network label missing", "trust domain", "double istio-remote", "address kept",
    "gateway address missing", "takeover diverts", "waypoint and takeover", "node port", "stale entries",
    "segment switch", "slow host name",
]  # fmt: skip
# Issues of OSS Istio. Not derivation's: credentials (53992), tunnels' reuse (58039), ingress (58804, 60971),
# leaks (60032), sidecars (57878), the MCS API (57632), telemetry (58476).
ASKS = [
    57395, 60888, 57394, 58064, 57710, 57779, 60985, 61092, 60806, 58427, 61609, 57537, 56960, 56355, 60835,
    59401, 58269, 58176, 61713, 42137, 58133, 43906, 60801,
]  # fmt: skip
WANTED = [
    *ROWS, *BULLETS, *DECISIONS,
    *(f"fault {each}" for each in FAULTS), *(f"istio {each}" for each in ASKS),
]  # fmt: skip


def covered() -> dict[str, list[str]]:
    """What the scenarios themselves say, by item."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, told in sorted(SCENARIOS.items()):
        for item in told["covers"]:
            found[item].append(name)
    return dict(found)


@pytest.mark.parametrize("item", WANTED)
def test_every_item_has_a_scenario_that_asks_where_a_request_goes(item: str) -> None:
    names = INDEX[item]["scenarios"]
    asked = [name for name in names if _asks(SCENARIOS[name])]
    assert asked


def test_the_index_says_what_the_scenarios_say() -> None:
    assert {item: sorted(entry["scenarios"]) for item, entry in INDEX.items()} == covered()


def test_there_are_sixty_scenarios_and_each_says_what_it_proves() -> None:
    assert len(SCENARIOS) >= 60
    assert [name for name, told in SCENARIOS.items() if not told["proves"].endswith(".")] == []


def test_every_scenario_asks_where_a_request_goes() -> None:
    assert [name for name, told in SCENARIOS.items() if not _asks(told)] == []


def test_one_in_three_scenarios_goes_on_after_its_start() -> None:
    """Labels that go, gateways that come, peers that fall silent: most faults are changes."""
    assert 3 * len([name for name, told in SCENARIOS.items() if told.get("then")]) >= len(SCENARIOS)


def _asks(told: dict[str, object]) -> bool:
    steps = told.get("then") or []
    assert isinstance(steps, list)
    return bool(told.get("ask")) or any(step.get("ask") for step in steps)
