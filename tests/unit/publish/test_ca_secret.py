"""The CA in Secrets: found, made once, followed; and never lost."""

import asyncio
import base64
from random import Random

import pytest

from peerd.ca.bundle import BundleError, CaBundle
from peerd.kubeapi.continuity import Continuity
from peerd.model.generated import GENERATED_LABEL
from peerd.publish.ca_secret import CaSecret, open_ca
from peerd.publish.names import GIVEN_CA, SELF_MADE_CA
from tests.support.cas import NOW, Turned, self_signed_files
from tests.support.fake_apiserver import FakeApiServer, kinds
from tests.support.fake_apiserver.server import FakeTransport
from tests.support.virtual import virtual


def secret(name: str, files: dict[str, bytes]) -> dict[str, object]:
    data = {key: base64.b64encode(value).decode() for key, value in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "istio-system"},
        "data": data,
    }


async def opened(server: FakeApiServer, transport: FakeTransport | None = None) -> CaSecret:
    transport = transport or server.transport()
    return await open_ca(
        transport,
        organization="east",
        continuity=Continuity(transport, "istio-system"),
        clock=Turned(),
        random=Random(1),
    )


class Watched:
    """A CA that is followed, and what was told of it."""

    def __init__(self, ca: CaSecret) -> None:
        self.ca = ca
        self.changes: list[CaBundle] = []
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self._task = asyncio.ensure_future(
            ca.watch(self.changes.append, self.faults.append, expiring=self.warnings.append)
        )

    async def stop(self) -> None:
        assert not self._task.done(), self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@virtual
async def test_the_operators_secret_comes_first() -> None:
    """`cacerts`, though a root that was made once lies there too."""
    server = kinds.cluster()
    given, made = self_signed_files(), self_signed_files()
    server.put(secret(GIVEN_CA, given))
    server.put(secret(SELF_MADE_CA, made))
    assert (await opened(server)).bundle.roots_pem == given["root-cert.pem"]
    server.delete("Secret", "istio-system", GIVEN_CA)
    assert (await opened(server)).bundle.roots_pem == made["root-cert.pem"]


@virtual
async def test_where_there_is_none_a_root_is_made_once() -> None:
    """In istiod's own Secret, so that either may follow the other; uninstalling does not delete it."""
    server = kinds.cluster()
    first = await opened(server)
    again = await opened(server)
    assert first.bundle == again.bundle
    assert first.bundle.is_root
    ((key, tree),) = server.objects("Secret").items()
    assert key == ("istio-system", SELF_MADE_CA)
    assert tree["type"] == "istio.io/ca-root"
    assert GENERATED_LABEL not in tree["metadata"].get("labels", {})


@virtual
async def test_of_many_who_start_together_one_makes_the_root() -> None:
    """The first writer wins, the others use what it wrote."""
    server = kinds.cluster()
    cas = await asyncio.gather(*(opened(server) for _ in range(8)))
    assert len({each.bundle.roots_text for each in cas}) == 1
    tries = [path for method, path, _ in server.requests if method == "POST"]
    assert len(tries) == 8


@virtual
async def test_a_secret_that_is_no_ca_stops_the_start() -> None:
    """Nothing is made in its stead: it is the operator's."""
    server = kinds.cluster()
    server.put(secret(GIVEN_CA, {"ca-cert.pem": b"x"}))
    with pytest.raises(BundleError, match=r"Secret/istio-system/cacerts: ca-key\.pem"):
        await opened(server)
    broken = secret(GIVEN_CA, {})
    broken["data"] = {"ca-cert.pem": "%"}
    server.put(broken)
    with pytest.raises(BundleError, match="not base64"):
        await opened(server)


@virtual
async def test_a_new_content_is_taken_up_at_once() -> None:
    """A rotation, as seen in the Secret; telling the same again changes nothing."""
    server = kinds.cluster()
    server.put(secret(GIVEN_CA, self_signed_files()))
    watched = Watched(await opened(server))
    await asyncio.sleep(1)
    assert watched.changes == []
    rotated = self_signed_files()
    server.put(secret(GIVEN_CA, rotated))
    await asyncio.sleep(1)
    assert [each.roots_pem for each in watched.changes] == [rotated["root-cert.pem"]]
    assert watched.ca.bundle is watched.changes[0]
    await watched.stop()


@virtual
async def test_a_bad_content_is_told_and_the_good_one_signs_on() -> None:
    """As is the Secret's deletion; a good content ends it."""
    server = kinds.cluster()
    good = self_signed_files()
    server.put(secret(GIVEN_CA, good))
    watched = Watched(await opened(server))
    await asyncio.sleep(1)
    server.put(secret(GIVEN_CA, {**good, "root-cert.pem": b"rubbish"}))
    await asyncio.sleep(1)
    assert "root-cert.pem" in watched.ca.problem
    assert watched.faults == [watched.ca.problem]
    server.delete("Secret", "istio-system", GIVEN_CA)
    await asyncio.sleep(1)
    assert "is gone" in watched.ca.problem
    assert watched.ca.bundle.roots_pem == good["root-cert.pem"]
    server.put(secret(GIVEN_CA, good))
    await asyncio.sleep(1)
    assert watched.ca.problem == ""
    assert watched.changes == []
    await watched.stop()


@virtual
async def test_a_given_ca_that_appears_later_is_not_switched_to() -> None:
    """Connections under the other root would break; how to get there is said."""
    server = kinds.cluster()
    ca = await opened(server)
    before = ca.bundle
    watched = Watched(ca)
    await asyncio.sleep(1)
    server.put(secret(GIVEN_CA, self_signed_files()))
    await asyncio.sleep(1)
    assert ca.bundle is before
    assert "Secret/istio-system/cacerts: appeared" in watched.faults[-1]
    await watched.stop()


@virtual
async def test_what_ends_soon_is_told_daily() -> None:
    """Certificates of an eighth of a year's rest."""
    server = kinds.cluster()
    server.put(secret(GIVEN_CA, self_signed_files(NOW - 3640 * 86_400.0)))
    watched = Watched(await opened(server))
    await asyncio.sleep(86_400 * 2.5)
    assert len(watched.warnings) == 2
    assert "ends in" in watched.warnings[0]
    await watched.stop()
