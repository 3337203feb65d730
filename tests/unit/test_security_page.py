"""SECURITY.md is true of this version: listeners, settings, roles, refusals, files it points at."""

import re
from pathlib import Path

import msgspec
import pytest

from peerd.cli.config import OPTIONS
from peerd.model.kube.meta import Annotations
from peerd.serve.authentication import REFUSAL
from peerd.serve.authorisation import Role

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"`--([a-z-]+)", PAGE))))
def test_every_setting_it_names_exists(flag: str) -> None:
    """Of `peerd serve`."""
    assert flag in {option.name for option in OPTIONS}


# Of addresses, `--istiod-addr` is one that we dial.
LISTENERS = [option for option in OPTIONS if option.kind == "address" and option.name != "istiod-addr"]


@pytest.mark.parametrize("option", LISTENERS, ids=lambda o: o.name)
def test_every_listener_is_in_the_threat_model(option) -> None:  # type: ignore[no-untyped-def]
    """A new port cannot come without a row that says who may reach it."""
    assert f"| `--{option.name}`" in PAGE


@pytest.mark.parametrize("role", Role, ids=lambda role: role.name)
def test_every_role_of_the_table_is_described(role: Role) -> None:
    """By its name, in italics."""
    assert f"*{role.name.lower()}*" in PAGE


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)|`((?:tests|peerd)/[\w/.]+)`", PAGE))))
def test_every_file_it_points_at_exists(path: tuple[str, str]) -> None:
    """Links and paths."""
    assert (ROOT / (path[0] or path[1])).exists()


def test_the_text_of_a_refusal_and_the_annotation_are_the_real_ones() -> None:
    """They are what a reader searches for."""
    assert f"`{REFUSAL}`" in PAGE
    assert "`peering.peerd.io/issuer-sha256`" in PAGE
    names = {field.encode_name for field in msgspec.structs.fields(Annotations)}
    assert "peering.peerd.io/issuer-sha256" in names
