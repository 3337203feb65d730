"""The companion: a certificate of our account or none, renewed at half its life, the old one kept."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from peerd.ca.signer import sign_request
from peerd.encode.certificates import decode_certificate_request, encode_certificate_response
from peerd.encode.envoy_listeners import IDENTITY_FILE
from peerd.gateway.certificate import CertificateError, read_identity, request
from peerd.gateway.companion import Companion
from peerd.model.gateway_config import BOOTSTRAP_FILE
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.transport.base import StatusCode, StreamClosed
from tests.support.envoys import identity_of, make_ca, material, settings


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Ca:
    """A CA behind a channel: `fail` first, then answers for `identity`."""

    def __init__(self, bundle, identity: str, clock: Clock | None = None) -> None:
        self.bundle = bundle
        self.identity = identity
        self.clock = clock or Clock()
        self.fail = 0
        self.asked: list[dict[str, str]] = []
        self.keys: list[str] = []
        self.answered = asyncio.Event()

    def __call__(self, _settings):
        return self

    async def open(self, method, metadata):
        assert method == CREATE_CERTIFICATE_METHOD
        self.asked.append(dict(metadata))
        if self.fail:
            self.fail -= 1
            raise StreamClosed(StatusCode.UNAVAILABLE, "away")
        return self

    async def send(self, message: bytes) -> None:
        self.message = message

    async def half_close(self) -> None:
        pass

    async def receive(self) -> bytes | None:
        told = decode_certificate_request(self.message)
        self.keys.append(told.csr)
        self.answered.set()
        chain = sign_request(self.bundle, told.csr, self.identity, told.validity_seconds, self.clock.time())
        return encode_certificate_response(chain)

    async def close(self) -> None:
        pass


@pytest.fixture
def given(tmp_path):
    (tmp_path / "token").write_text("a-token\n")
    return settings(tmp_path)


@pytest.fixture
def ca(tmp_path, given):
    return Ca(make_ca(tmp_path), str(given.identity))


def secret(directory: Path) -> str:
    found: str = json.loads((directory / IDENTITY_FILE).read_text())["resources"][0]["tls_certificate"][
        "certificate_chain"
    ]["inline_string"]
    return found


async def test_a_certificate_is_asked_for_with_the_accounts_token(given, ca):
    """Its key is new, its name the Gateway's account, its roots the CA's."""
    identity = await request(given, ca)
    assert ca.asked == [{"authorization": "Bearer a-token", "clusterid": "Kubernetes"}]
    assert identity.roots.strip() == ca.bundle.roots_pem.decode().strip()
    again = await request(given, ca)
    assert again.key != identity.key


async def test_a_certificate_of_another_account_is_not_taken(given, ca):
    """The text names both, and what to mend."""
    ca.identity = "spiffe://cluster.local/ns/istio-system/sa/default"
    with pytest.raises(
        CertificateError, match=r"sa/default, and the Gateway's account is .*sa/istio-eastwest"
    ):
        await request(given, ca)


async def test_a_missing_token_is_named(tmp_path, given, ca):
    """Before anybody is asked."""
    (tmp_path / "token").unlink()
    with pytest.raises(CertificateError, match="the token or the roots cannot be read"):
        await request(given, ca)
    assert ca.asked == []


def test_a_key_that_does_not_fit_is_not_taken(given, tmp_path):
    """A file that was mixed up by hand, say."""
    bundle = make_ca(tmp_path)
    one, two = identity_of(bundle, given), identity_of(bundle, given)
    with pytest.raises(CertificateError, match="of another key"):
        read_identity(one.chain, two.key, one.roots, given)


async def test_files_are_written_and_a_restart_uses_them(given, ca, tmp_path):
    """The CA need not be there for it."""
    clock = Clock()
    await Companion(given, ca, clock, Random(1)).prepare()
    assert (tmp_path / BOOTSTRAP_FILE).exists()
    first = secret(tmp_path)
    ca.fail = 1000
    await Companion(given, ca, clock, Random(1)).prepare()
    assert secret(tmp_path) == first
    assert len(ca.asked) == 1


async def test_it_is_renewed_at_half_its_life_with_a_new_key(given, ca, tmp_path):
    """The file changes, whole."""
    clock = ca.clock
    companion = Companion(given, ca, clock, Random(1), look=0.01)
    await companion.prepare()
    first = secret(tmp_path)
    ca.answered.clear()
    running = asyncio.ensure_future(companion.run())
    clock.now += 12 * 3600 + 60
    async with asyncio.timeout(30):
        await ca.answered.wait()
        while secret(tmp_path) == first:  # noqa: ASYNC110 (a file tells nobody)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(set(ca.keys)) == 2


async def test_a_ca_that_is_away_is_asked_again_and_the_old_certificate_stays(
    given, ca, tmp_path, monkeypatch
):
    """Later and later, with jitter."""
    clock = ca.clock
    companion = Companion(given, ca, clock, Random(1), look=0.01)
    await companion.prepare()
    first = secret(tmp_path)
    waits: list[float] = []
    real = asyncio.sleep

    async def quickly(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("peerd.gateway.companion.asyncio.sleep", quickly)
    ca.fail = 9
    ca.answered.clear()
    clock.now += 13 * 3600
    running = asyncio.ensure_future(companion.run())
    async with asyncio.timeout(30):
        await ca.answered.wait()
        while secret(tmp_path) == first:
            await real(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    asked = [wait for wait in waits if wait > 0.5][:9]
    for number, wait in enumerate(asked):
        assert 0.8 * min(150, 2**number) <= wait <= 1.2 * min(150, 2**number)


async def test_new_roots_in_the_file_are_taken_up(given, ca, tmp_path):
    """Without a new certificate."""
    companion = Companion(given, ca, ca.clock, Random(1), look=0.01)
    await companion.prepare()
    before = (tmp_path / "sds" / "roots.yaml").read_text()
    path = tmp_path / "root-cert.pem"
    old = path.read_bytes()
    make_ca(tmp_path)
    path.write_bytes(old + path.read_bytes())
    running = asyncio.ensure_future(companion.run())
    async with asyncio.timeout(30):
        while (tmp_path / "sds" / "roots.yaml").read_text() == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(ca.asked) == 1


def trusted(directory: Path) -> str:
    """Whom the gateway admits, as PEM."""
    found = json.loads((directory / "sds" / "trust.yaml").read_text())["resources"][0]["validation_context"]
    validator = found["custom_validator_config"]["typed_config"]
    return str(validator["trust_domains"][0]["trust_bundle"]["inline_string"])


async def until(told: Callable[[], bool]) -> None:
    """Wait for what files say: they tell nobody."""
    async with asyncio.timeout(10):
        while not told():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_root_that_is_taken_away_is_trusted_no_longer(given, ca, tmp_path):
    """It came with the certificate, too: another one is asked for at once, not at half its life (D42)."""
    companion = Companion(given, ca, ca.clock, Random(1), look=0.01)
    await companion.prepare()
    old = trusted(tmp_path)
    ca.bundle = make_ca(tmp_path)  # the CA has moved to another root, and the file names that alone
    new = (tmp_path / "root-cert.pem").read_text()
    running = asyncio.ensure_future(companion.run())
    await until(lambda: old.strip() not in trusted(tmp_path))
    await until(lambda: len(ca.asked) == 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert trusted(tmp_path).strip() == new.strip()


async def test_a_root_that_only_the_ca_names_is_trusted_and_asked_about_once(given, ca, tmp_path):
    """Whoever wrote the file may know less than the CA."""
    companion = Companion(given, ca, ca.clock, Random(1), look=0.01)
    await companion.prepare()
    before = (tmp_path / "root-cert.pem").read_bytes()
    make_ca(tmp_path)
    after = (tmp_path / "root-cert.pem").read_text()
    running = asyncio.ensure_future(companion.run())
    await until(lambda: after.strip() in trusted(tmp_path) and len(ca.asked) == 2)
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert before.decode().strip() in trusted(tmp_path)
    assert len(ca.asked) == 2


async def test_roots_are_taken_up_while_the_ca_is_away(given, ca, tmp_path):
    """A renewal that waits for its CA holds nothing else up."""
    companion = Companion(given, ca, ca.clock, Random(1), look=0.01)
    await companion.prepare()
    ca.fail = 1_000
    ca.clock.now += 13 * 3600
    running = asyncio.ensure_future(companion.run())
    await until(lambda: len(ca.asked) > 1)
    old = (tmp_path / "root-cert.pem").read_bytes()
    make_ca(tmp_path)
    new = (tmp_path / "root-cert.pem").read_bytes()
    (tmp_path / "root-cert.pem").write_bytes(old + new)
    await until(lambda: new.decode().strip() in trusted(tmp_path))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_envoy_that_does_not_answer_is_no_reason_to_hang(given, ca):
    """There may be none: it was ended first."""
    companion = Companion(given, ca, ca.clock, Random(1))
    async with asyncio.timeout(30):
        await companion.stop()


def test_material_of_tests_is_what_it_says(tmp_path):
    """Otherwise the tests above prove little."""
    own = material(make_ca(tmp_path), "spiffe://cluster.local/ns/a/sa/b")
    assert own.certificate_chain.count(b"BEGIN CERTIFICATE") == 2
