"""docs/architecture.md is true: every stage's file and function exists, every path that is named exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
STAGES = re.findall(r"^\| \d+ \| .* \| `(\S+)` \| `(\S+)` \|$", PAGE, re.MULTILINE)


def test_the_page_has_its_stages():
    """The table is there, from the source to the ACK."""
    assert len(STAGES) == 14


@pytest.mark.parametrize(("file", "function"), STAGES)
def test_every_stage_is_where_the_page_says(file, function):
    """Class and method, or function."""
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for name in function.split("."):
        (found,) = [node for node in body if getattr(node, "name", None) == name]
        body = getattr(found, "body", [])


def test_every_path_on_the_page_exists():
    """Rooms and files."""
    named = set(re.findall(r"`((?:peerd|tests)/[\w/.]+)`", PAGE))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()
