"""Beside istiod: its certificate is asked for, renewed and retried; its flags can be said instead of read."""

import asyncio
import random
import time

import pytest

from peerd.app.istiod import IstiodIdentity, explicit_flags
from peerd.ca import authority
from peerd.ca.bundle import load_bundle
from peerd.model.caller import Caller, CallerKind
from peerd.model.config import ServeConfig
from peerd.model.identity import SpiffeId
from peerd.model.types import CREATE_CERTIFICATE_METHOD
from peerd.serve.certificates import CertificateService
from peerd.serve.pods import PodIndex
from peerd.transport.base import StatusCode, StreamClosed
from peerd.transport.memory import MemoryNetwork, MemoryServer
from peerd.transport.tls import client_context
from tests.support.peering import SystemClock

OWN = SpiffeId("cluster.local", "istio-system", "peerd")


class Clock(SystemClock):
    """The machine's, ahead by so many seconds."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead


class Istiod:
    """A CA over the in-memory transport. `refuse` says what the next callers hear."""

    def __init__(self, root, issuer):
        authority.write_new(root / "ca", authority.make_cluster_ca(issuer, "east", time.time()))
        self.bundle = load_bundle(root / "ca", time.time())
        self.callers = []
        self.refuse = None
        self.settings = []
        self._service = CertificateService(
            lambda: self.bundle, self._authenticate, PodIndex(), (), SystemClock()
        )
        self._network = MemoryNetwork()
        self._server = MemoryServer(
            self._network, "istiod", {CREATE_CERTIFICATE_METHOD: self._service.handle}
        )

    async def _authenticate(self, stream):
        self.callers.append(dict(stream.metadata))
        if self.refuse is not None:
            raise self.refuse
        return Caller(CallerKind.WORKLOAD, OWN)

    async def start(self):
        await self._server.start()

    def ask(self, settings):
        self.settings.append(settings)
        return self._network.channel("istiod")

    async def stop(self):
        await self._server.close(0)


@pytest.fixture
async def istiod(tmp_path):
    found = Istiod(tmp_path, authority.make_root("test", time.time()))
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def config(tmp_path, istiod):
    (tmp_path / "token").write_text("a-token")
    (tmp_path / "roots.pem").write_bytes(istiod.bundle.roots_pem)
    return ServeConfig(
        source="kube",
        state_dir=str(tmp_path),
        mode="beside",
        cluster_id="east",
        istiod_token_file=str(tmp_path / "token"),
        istiod_root_file=str(tmp_path / "roots.pem"),
    )


@pytest.fixture
async def identity(config, istiod, monkeypatch):
    """Running, with waits that a test ends by `look`."""
    turns = asyncio.Queue()
    slept = asyncio.Queue()

    async def sleep(seconds):
        await slept.put(seconds)
        await turns.get()

    monkeypatch.setattr("peerd.app.istiod.asyncio.sleep", sleep)
    clock = Clock()
    found = IstiodIdentity(config, clock, random.Random(1), istiod.ask)
    task = asyncio.ensure_future(found.run(OWN))

    async def look():
        """The next turn; returns how long it means to wait after it."""
        if slept.empty() and look.turns:
            turns.put_nowait(None)
        look.turns += 1
        return await slept.get()

    look.turns = 0
    found.look, found.clock = look, clock
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_certificate_is_asked_for_as_any_workload_does(identity, istiod):
    """With our account's token, for our own identity, at istiod's Service (D34)."""
    await identity.look()
    await identity.certified()
    assert istiod.callers == [{"authorization": "Bearer a-token", "clusterid": "east"}]
    assert istiod.settings[0].ca == "istiod.istio-system.svc:15012"
    assert str(istiod.settings[0].identity) == str(OWN)
    tls = identity.tls("cluster.local", lambda: {"other.local": istiod.bundle.roots_pem})
    material = tls.current()
    client_context(material)  # it loads
    assert material.roots_by_trust_domain.keys() == {"cluster.local", "other.local"}
    assert tls.current() is material, "the same object until it changes"


async def test_it_is_renewed_at_half_its_life(identity, istiod):
    """Not before; then the same source has the new one."""
    await identity.look()
    tls = identity.tls("cluster.local")
    first = tls.current()
    await identity.look()
    assert len(istiod.callers) == 1
    identity.clock.ahead = 13 * 3600
    await identity.look()
    assert len(istiod.callers) == 2
    assert tls.current().certificate_chain != first.certificate_chain


async def test_refusal_is_retried_and_the_old_certificate_stays(identity, istiod):
    """An istiod that is away for a while costs nothing; the reason is kept for whoever asks."""
    await identity.look()
    tls = identity.tls("cluster.local")
    first = tls.current()
    identity.clock.ahead = 13 * 3600
    istiod.refuse = StreamClosed(StatusCode.UNAVAILABLE, "not ready")
    waits = [await identity.look() for _ in range(8)]
    assert waits[0] < 1 < waits[-1]
    assert "UNAVAILABLE" in identity.problem
    assert tls.current() is first
    istiod.refuse = None
    await identity.look()
    assert identity.problem == ""
    assert tls.current() is not first


async def test_new_roots_are_trusted_without_a_new_certificate(identity, istiod, config, tmp_path):
    """istiod's ConfigMap is mounted: a root that is added there counts at the next handshake."""
    await identity.look()
    tls = identity.tls("cluster.local")
    added = authority.make_cluster_ca(authority.make_root("other", time.time()), "x", time.time())
    (tmp_path / "roots.pem").write_bytes(istiod.bundle.roots_pem + added["root-cert.pem"])
    await identity.look()
    assert added["root-cert.pem"] in tls.current().all_roots()
    assert len(istiod.callers) == 1


async def test_missing_files_are_told(identity, config, tmp_path):
    """Which one, until it is there."""
    (tmp_path / "token").unlink()
    await identity.look()
    assert "token" in identity.problem


@pytest.mark.parametrize(("word", "safe"), [("auto", None), ("right", True), ("wrong", False)])
def test_flags_can_be_said(word, safe):
    """For an istiod that runs elsewhere (D41)."""
    found = explicit_flags(ServeConfig(source="kube", state_dir="s", mode="beside", istiod_flags=word))
    assert (found is None) is (safe is None)
    assert found is None or found.safe is safe
