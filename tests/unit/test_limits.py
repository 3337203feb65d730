"""Limits are in force: each is used by code, and named by a test that meets it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerd import limits

ROOT = Path(__file__).parents[2]
NAMES = {limit: name for name, limit in vars(limits).items() if isinstance(limit, limits.Limit)}


def words(*folders: str) -> Iterator[str]:
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path not in {Path(limits.__file__), Path(__file__)}:
                yield from re.findall(r"\b[A-Z][A-Z_0-9]+\b", path.read_text("utf-8"))


CODE, TESTS = (set(words(folder)) for folder in ("peerd", "tests"))


@pytest.mark.parametrize("name", NAMES.values())
def test_a_limit_is_used_and_tested(name):
    """One that nothing meets is only a number in a table."""
    assert name in CODE
    assert name in TESTS


def test_every_limit_is_in_one_of_both_lists():
    """What is in neither is in no metric and no table."""
    listed = [*limits.LIMITS, *limits.GATEWAY_LIMITS]
    assert sorted(each.name for each in listed) == sorted(each.name for each in NAMES)
