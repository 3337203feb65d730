"""docs/operations.md is true of this version: settings, limits, metrics."""

import re
from pathlib import Path

import pytest

from peerd import limits
from peerd.cli.config import OPTIONS
from peerd.model.config import ServeConfig
from peerd.model.generated import IstiodFlags
from peerd.observe.metrics import Metrics
from peerd.observe.snapshot import CaView, PublishingView, Snapshot

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
ROWS = {
    cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]]
    for line in reversed(PAGE.splitlines())  # the first of two rows of a name counts
    if line.startswith("| ")
    for cells in [line.strip("| ").split(" | ")]
}


def default_of(option):
    count = len(ServeConfig.__struct_defaults__)
    defaults = dict(zip(ServeConfig.__struct_fields__[-count:], ServeConfig.__struct_defaults__, strict=True))
    if option.required:
        return "required"
    value = defaults[option.field]
    text = "on" if value is True else ", ".join(value) if isinstance(value, tuple) else value
    return f"`{text}`" if text else "—"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_setting_is_listed_with_its_default(option):
    """With the words of `--help`."""
    assert ROWS[f"--{option.name}"] == [default_of(option), option.help]


@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.name)
def test_every_limit_is_listed_with_its_value_and_reason(limit):
    """As peerd/limits.py has it."""
    assert ROWS[limit.name] == [f"{limit.value:,} {limit.unit}", limit.reason.replace("|", "or")]


@pytest.mark.parametrize("limit", limits.GATEWAY_LIMITS, ids=lambda limit: limit.name)
def test_every_limit_of_gateways_is_listed_with_the_metric_that_shows_it(limit):
    """As peerd/limits.py has it; Envoy counts."""
    value, reason, metric = ROWS[limit.name]
    assert (value, reason) == (f"{limit.value:,} {limit.unit}", limit.reason)
    assert metric


def test_every_metric_of_ours_is_described():
    """What a scrape gives, less the process's own figures."""
    publishing = PublishingView(True, "me", 0, (("Service", "apply", "ok", 1),), (("written", 1),))
    ca = CaView(1, 0, 0, 3.0, 4.0)
    snapshot = Snapshot(
        "c", "n", "td", "l", "i", 1, 1.0, 2.0, ca=ca, publishing=publishing, istiod=IstiodFlags(True)
    )
    scraped = Metrics(lambda: snapshot).render().decode()
    names = {line.split()[2] for line in scraped.splitlines() if line.startswith("# TYPE")}
    ours = {name for name in names if not name.startswith("process_")}
    assert ours
    assert {name for name in ours if f"`{name}`" not in PAGE} == set()


def test_every_link_leads_somewhere():
    """Pages move; links must move with them."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
