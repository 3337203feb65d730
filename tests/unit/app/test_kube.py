"""Joining the cluster's own API server: patience with it, none with settings that cannot be used."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from peerd.app.kube import Kube, connect, join
from peerd.app.parts import SystemClock
from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.model.config import ConfigError, ServeConfig
from tests.support.cas import self_signed_files
from tests.support.fake_apiserver import FakeApiServer, Scripted, kinds
from tests.support.virtual import virtual
from tests.unit.publish.test_ca_secret import secret

CONFIG = ServeConfig("kube", "state", cluster_id="east")


async def joined(server: FakeApiServer, faults: Scripted | None = None, config: ServeConfig = CONFIG) -> Kube:
    return await join(server.transport(faults), config, SystemClock(), Random(1))


@virtual
async def test_the_lineage_is_the_system_namespaces_uid() -> None:
    """The same on all replicas, and after restarts."""
    server = kinds.cluster()
    uid = server.objects("Namespace")["", "istio-system"]["metadata"]["uid"]
    assert [(await joined(server)).lineage for _ in range(2)] == [uid, uid]


@virtual
async def test_a_server_that_is_not_ready_is_waited_for() -> None:
    """Away, overloaded, starting, without our Namespace yet."""
    server, faults = kinds.cluster(), Scripted()
    server.storage.empty()
    path = "/api/v1/namespaces"
    for answer in (ApiUnreachableError("refused"), Response(503, b"no"), Response(200, b"<html>")):
        faults.answer(path, answer)
    waiting = asyncio.ensure_future(joined(server, faults))
    await asyncio.sleep(60)
    assert not waiting.done()
    server.put(kinds.namespace("istio-system"))
    assert (await asyncio.wait_for(waiting, 60)).lineage


@virtual
async def test_a_server_that_asks_for_patience_gets_it() -> None:
    """Retry-After."""
    server, faults = kinds.cluster(), Scripted()
    faults.answer("/api/v1/namespaces", Response(429, b"later", retry_after=40.0))
    await joined(server, faults)
    assert asyncio.get_running_loop().time() >= 40


@virtual
async def test_a_ca_that_cannot_be_used_stops_the_start() -> None:
    """With the Secret and what is wrong in it."""
    server = kinds.cluster()
    server.put(secret("cacerts", {**self_signed_files(), "ca-key.pem": b"x"}))
    with pytest.raises(ConfigError, match=r"Secret/istio-system/cacerts/ca-key.pem: .*mend the Secret"):
        await joined(server)


@virtual
async def test_where_files_give_a_ca_or_an_istiod_has_one_secrets_are_left_alone() -> None:
    """Nothing is read, nothing is made (decision D34)."""
    for config in (
        ServeConfig("kube", "state", ca_dir="ca"),
        ServeConfig("kube", "state", mode="beside"),
    ):
        server = kinds.cluster()
        assert (await joined(server, config=config)).ca is None
        assert not any("secrets" in path for _, path, _ in server.requests)


async def test_no_credentials_are_an_error_with_a_fix(tmp_path: Path) -> None:
    """Outside of a Pod, and with a kubeconfig that is not there."""
    with pytest.raises(ConfigError, match=r"--source kube: service account of this Pod: .*; run in a Pod"):
        await connect(CONFIG, SystemClock(), Random(1))
    missing = ServeConfig(f"kube:{tmp_path}/none", "state")
    with pytest.raises(ConfigError, match=f"kubeconfig {tmp_path}/none: "):
        await connect(missing, SystemClock(), Random(1))
