"""Envoy's files are whole, the owner's alone, and trust each domain under its own roots."""

import json
import stat

import pytest

from peerd.encode.envoy_listeners import IDENTITY_FILE, TRUST_FILE
from peerd.gateway.certificate import CertificateError
from peerd.gateway.files import (
    ROOTS_FILE,
    merged,
    read_secret,
    trust_secret,
    write,
    write_secrets,
)
from tests.support.envoys import identity_of, make_ca, settings


def content(path):
    return json.loads(path.read_text())["resources"][0]


def test_a_file_is_replaced_by_rename_and_readable_by_its_owner_alone(tmp_path):
    """Whoever follows it sees the old one or the new one; saying the same again changes nothing."""
    assert write(tmp_path, "sds/a.yaml", "one")
    path = tmp_path / "sds" / "a.yaml"
    first = path.stat()
    assert stat.S_IMODE(first.st_mode) == 0o600
    assert not write(tmp_path, "sds/a.yaml", "one")
    assert path.stat().st_ino == first.st_ino
    assert write(tmp_path, "sds/a.yaml", "two")
    assert path.stat().st_ino != first.st_ino
    assert [each.name for each in path.parent.iterdir()] == ["a.yaml"]


def test_a_draft_of_a_crashed_run_is_no_obstacle(tmp_path):
    """It is written anew."""
    (tmp_path / ".a.yaml.new").write_text("half")
    assert write(tmp_path, "a.yaml", "whole")
    assert (tmp_path / "a.yaml").read_text() == "whole"


def test_certificate_and_key_are_one_file(tmp_path):
    """They never part; what was written can be used again."""
    given = settings(tmp_path)
    identity = identity_of(make_ca(tmp_path), given)
    assert write_secrets(given, identity)
    assert not write_secrets(given, identity)
    assert read_secret(given) == (identity.chain, identity.key, merged(identity.roots))
    secret = content(tmp_path / IDENTITY_FILE)
    assert secret["tls_certificate"]["private_key"]["inline_string"] == identity.key
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "identity.yaml" and identity.key in path.read_text()
    ]


def test_each_trust_domain_is_admitted_under_its_own_roots_alone(tmp_path):
    """The CA of one cannot speak for another."""
    other = tmp_path / "other"
    other.mkdir()
    theirs = make_ca(other).roots_pem.decode()
    given = settings(tmp_path, other_roots=(("other.example", str(other / "root-cert.pem")),))
    identity = identity_of(make_ca(tmp_path), given)
    write_secrets(given, identity)
    validator = content(tmp_path / TRUST_FILE)["validation_context"]["custom_validator_config"][
        "typed_config"
    ]
    bundles = {each["name"]: each["trust_bundle"]["inline_string"] for each in validator["trust_domains"]}
    assert set(bundles) == {"cluster.local", "other.example"}
    assert bundles["other.example"] == theirs
    assert theirs not in bundles["cluster.local"]
    assert theirs not in (tmp_path / ROOTS_FILE).read_text()


def test_roots_may_come_as_text_and_a_file_counts_first(tmp_path):
    """As peerd hands them to the gateways that it runs; what is no PEM is named by its trust domain."""
    one, two = tmp_path / "one", tmp_path / "two"
    roots = {}
    for name in (one, two):
        name.mkdir()
        roots[name] = make_ca(name).roots_pem.decode()
    given = settings(
        tmp_path,
        other_roots=(("b.example", str(two / "root-cert.pem")),),
        other_pem=(("a.example", roots[one]), ("b.example", roots[one]), ("cluster.local", roots[one])),
    )
    identity = identity_of(make_ca(tmp_path), given)
    write_secrets(given, identity)
    validator = content(tmp_path / TRUST_FILE)["validation_context"]["custom_validator_config"]
    domains = validator["typed_config"]["trust_domains"]
    bundles = {each["name"]: each["trust_bundle"]["inline_string"] for each in domains}
    assert (bundles["a.example"], bundles["b.example"]) == (roots[one], roots[two])
    assert roots[one] not in bundles["cluster.local"]
    with pytest.raises(
        CertificateError, match=r"roots of trust domain a\.example cannot be read: .*give PEM roots"
    ):
        write_secrets(settings(tmp_path, other_pem=(("a.example", "-----BEGIN x"),)), identity)


def test_a_file_cannot_speak_for_our_own_trust_domain(tmp_path):
    """Our own roots are those of the CA and of --roots."""
    other = tmp_path / "other"
    other.mkdir()
    theirs = make_ca(other).roots_pem.decode()
    given = settings(tmp_path, other_roots=(("cluster.local", str(other / "root-cert.pem")),))
    write_secrets(given, identity_of(make_ca(tmp_path), given))
    assert theirs not in json.loads((tmp_path / TRUST_FILE).read_text())["resources"][0].__repr__()


def test_roots_of_ca_and_file_are_joined(tmp_path):
    """During a rotation they differ, and both count."""
    given = settings(tmp_path)
    identity = identity_of(make_ca(tmp_path), given)
    new = make_ca(tmp_path).roots_pem.decode()
    write_secrets(given, identity)
    own = content(tmp_path / ROOTS_FILE)["validation_context"]["trusted_ca"]["inline_string"]
    assert own == merged(identity.roots, new)
    assert own.count("BEGIN") == 2


def test_roots_that_cannot_be_read_are_named(tmp_path):
    """And nothing is written of them."""
    given = settings(tmp_path)
    identity = identity_of(make_ca(tmp_path), given)
    (tmp_path / "root-cert.pem").write_text("rubbish")
    with pytest.raises(CertificateError, match=r"root-cert\.pem cannot be read"):
        write_secrets(given, identity)
    assert not (tmp_path / IDENTITY_FILE).exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"resources": []}', "\x00"])
def test_what_an_earlier_run_left_broken_is_nothing(tmp_path, text):
    """A new certificate is asked for."""
    given = settings(tmp_path)
    write(tmp_path, IDENTITY_FILE, text)
    assert read_secret(given) is None


def test_trust_is_told_in_a_fixed_order():
    """Equal trust gives equal bytes, so nothing is written."""
    assert trust_secret({"a": "x", "b": "y"}) == trust_secret({"b": "y", "a": "x"})
