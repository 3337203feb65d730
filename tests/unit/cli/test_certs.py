"""`peerd certs`: what it writes fits together, what would be lost is not overwritten."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from peerd.ca import jwt
from peerd.ca.bundle import load_bundle
from peerd.cli.certs import certs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Run":
    monkeypatch.chdir(tmp_path)
    return Run()


class Run:
    def __call__(self, line: str, *, code: int = 0) -> Result:
        result = CliRunner().invoke(certs, line.split())
        assert result.exit_code == code, result.output
        return result


@pytest.mark.parametrize("flag", ["", " --rsa"])
def test_two_clusters_under_one_root(run: Run, tmp_path: Path, flag: str) -> None:
    """The commands of the help text: folders that load, keys only the owner reads, verified together."""
    import time

    run(f"root --dir certs{flag}")
    run(f"cluster east west --root certs --dir certs{flag}")

    bundles = [load_bundle(tmp_path / "certs" / name, time.time()) for name in ("east", "west")]
    assert bundles[0].roots == bundles[1].roots
    assert bundles[0].certificate != bundles[1].certificate
    assert sorted(path.name for path in (tmp_path / "certs" / "east").iterdir()) == [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ]
    assert stat.S_IMODE((tmp_path / "certs" / "root-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "certs" / "east" / "ca-key.pem").stat().st_mode) == 0o600
    assert "certs/east: good" in run("verify certs/east certs/west").output


@pytest.mark.parametrize("command", ["root --dir certs", "cluster east --root certs --dir certs"])
def test_nothing_is_overwritten(run: Run, tmp_path: Path, command: str) -> None:
    """A second run fails, names the files, and leaves every byte as it was."""
    run("root --dir certs")
    run("cluster east --root certs --dir certs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}

    result = run(command, code=1)

    assert "already there" in result.output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before


def test_a_rotation_by_its_help_text(run: Run) -> None:
    """Add, switch, remove in both clusters; the wrong order is refused; every step leaves them good."""
    run("root --dir certs")
    run("cluster east west --root certs --dir certs")
    run("root --dir new")

    assert "add it first" in run("rotate certs/east --issuer new", code=1).output
    for step in ("--add-root new", "--issuer new", "--remove-root certs"):
        run(f"rotate certs/east certs/west {step}")
        run("verify certs/east certs/west")
    assert "exactly one" in run("rotate certs/east --add-root new --issuer new", code=2).output


def test_clusters_that_cannot_trust_each_other_are_told(run: Run) -> None:
    """Under two roots, `verify` names the file that lacks the other's."""
    run("root --dir a")
    run("root --dir b")
    run("cluster east --root a --dir certs")
    run("cluster west --root b --dir certs")

    assert (
        "certs/west/root-cert.pem: lacks the root of certs/east"
        in run("verify certs/east certs/west", code=1).output
    )


def test_show_prints_what_is_pinned(run: Run) -> None:
    """Kind, key, validity and the hash that a Gateway's annotation can name; keys are never printed."""
    run("root --dir certs --organization example.org")
    run("cluster east --root certs --dir certs")

    output = run("show certs/east certs certs/root-cert.pem").output

    assert "intermediate CA" in output
    assert "EC secp256r1" in output
    assert "O=example.org" in output
    assert output.count("public key sha256") == 5
    assert "PRIVATE" not in output


def test_tokens_without_kubernetes(run: Run, tmp_path: Path) -> None:
    """The token verifies with the key set beside it and says account and Pod, as a projected one does."""
    run("token-issuer --dir tokens")
    token = run("token istio-system/ztunnel --issuer tokens --pod zt-1 --pod-uid u-1").output

    claims = jwt.verify(token, jwt.read_jwks((tmp_path / "tokens" / "jwks.json").read_bytes()))

    assert claims["sub"] == "system:serviceaccount:istio-system:ztunnel"
    assert claims["aud"] == ["istio-ca"]
    assert claims["kubernetes.io"]["pod"] == {"name": "zt-1", "uid": "u-1"}
    assert "NAMESPACE/ACCOUNT" in run("token ztunnel --issuer tokens", code=2).output


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("cluster east --root nowhere --dir certs", "nowhere/root-cert.pem: cannot be read"),
        ("verify nowhere", "nowhere: holds no CA"),
        ("token a/b --issuer nowhere", "nowhere/token-key.pem: cannot be read"),
        ("rotate nowhere --add-root nowhere", "nowhere/root-cert.pem: cannot be read"),
    ],
)
def test_what_is_missing_is_named(run: Run, command: str, told: str) -> None:
    """One line and exit code 1, no traceback."""
    result = run(command, code=1)

    assert told in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["", *(f"{name} " for name in certs.commands)])
def test_every_help_has_an_example(run: Run, command: str) -> None:
    """A user sees how it is called."""
    assert "peerd certs" in run(f"{command}--help").output
