"""Who is calling: each credential proves its kind of caller, and a refused one hears istiod's text."""

from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.serve.authentication import by_certificate, by_token, chain, loopback
from peerd.serve.tokens import TokenRefusedError, VerifiedToken
from peerd.transport.base import PeerCertificate, StatusCode, Stream, StreamClosed
from tests.support.fake_stream import FakeStream

WEST = SpiffeId("west", "istio-system", "peerd")


class Verifier:
    """Knows one token."""

    async def verify(self, token: str) -> VerifiedToken:
        if token != "good":
            raise TokenRefusedError("the token expired 5 s ago")
        return VerifiedToken("istio-system", "ztunnel", "zt-1", "u-1")


tokens = by_token(Verifier(), lambda: "cluster.local", lambda: {"east", "Kubernetes"})
peers = by_certificate(CallerKind.PEER, lambda: {WEST})


def _certificate(*uris: str, issuer: str = "abc") -> PeerCertificate:
    return PeerCertificate(uris, issuer, 0.0)


async def _refused(authenticate: Callable[[Stream], Awaitable[Caller]], stream: FakeStream) -> str:
    """The reason in the log; the caller itself hears only the one text."""
    with capture_logs() as logs, pytest.raises(StreamClosed) as caught:
        await authenticate(stream)
    assert (caught.value.code, caught.value.message) == (
        StatusCode.UNAUTHENTICATED,
        "authentication failure",
    )
    assert logs[0]["remote"] == stream.remote
    reason = logs[0]["reason"]
    assert isinstance(reason, str)
    return reason


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "Bearer good\n", "BEARER  good"])
@pytest.mark.parametrize("cluster", [None, "", "east", "Kubernetes"])
async def test_a_good_token_makes_a_workload(header: str, cluster: str | None) -> None:
    """Whatever the case of the scheme and with the file's line end; clusterid absent, ours or an alias."""
    metadata = {"authorization": header} | ({} if cluster is None else {"clusterid": cluster})

    caller = await chain(tokens)(FakeStream(metadata=metadata))

    identity = SpiffeId("cluster.local", "istio-system", "ztunnel")
    assert caller == Caller(CallerKind.WORKLOAD, identity, "zt-1", "u-1")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "no credential was shown"),
        ({"authorization": ""}, "no credential"),
        ({"authorization": "Basic good"}, "no credential"),
        ({"authorization": "Bearer bad"}, "expired 5 s ago"),
        ({"authorization": "Bearer "}, "expired"),
        ({"authorization": "Bearer good", "clusterid": "west"}, "clusterid is 'west', this cluster is"),
    ],
)
async def test_no_good_token_is_refused(metadata: dict[str, str], reason: str) -> None:
    """UNAUTHENTICATED with istiod's text, the reason in the log."""
    assert reason in await _refused(chain(tokens), FakeStream(metadata=metadata))


async def test_a_peers_certificate_makes_a_peer() -> None:
    """The identity and the issuer's key are kept for what follows."""
    caller = await chain(peers)(FakeStream(certificate=_certificate(str(WEST))))

    assert caller == Caller(CallerKind.PEER, WEST, issuer_key_sha256="abc")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("spiffe://east/ns/istio-system/sa/peerd", "of trust domain 'east'"),
        ("spiffe://west/ns/shop/sa/reviews", "not a control plane"),
        ("https://west", "cannot be an identity"),
    ],
)
async def test_a_workloads_certificate_is_no_peer(uri: str, reason: str) -> None:
    """Wrong trust domain, wrong account, no SPIFFE identity."""
    assert reason in await _refused(chain(peers), FakeStream(certificate=_certificate(uri)))


async def test_an_unpinned_issuer_is_refused() -> None:
    """In a shared trust domain the issuing CA's key counts as well."""
    pinned = by_certificate(CallerKind.PEER, lambda: {WEST}, lambda: ["def"])

    reason = await _refused(chain(pinned), FakeStream(certificate=_certificate(str(WEST))))

    assert "pinned is def" in reason


async def test_a_chain_takes_the_first_credential_that_holds() -> None:
    """Certificate before token; a bad certificate does not spoil a good token, a bad one is told."""
    both = chain(peers, tokens)
    good = {"authorization": "Bearer good"}

    by_first = await both(FakeStream(metadata=good, certificate=_certificate(str(WEST))))
    by_second = await both(FakeStream(metadata=good, certificate=_certificate("https://x")))

    assert (by_first.kind, by_second.kind) == (CallerKind.PEER, CallerKind.WORKLOAD)
    reason = await _refused(both, FakeStream(certificate=_certificate("https://x")))
    assert "cannot be an identity" in reason


async def test_a_chain_without_steps_lets_nobody_in() -> None:
    """Where no token can be verified, nobody is anybody (decision D42)."""
    assert await _refused(chain(), FakeStream(metadata={"authorization": "Bearer good"}))


async def test_the_loopback_address_asks_for_nothing() -> None:
    """It is off by default, and bound to nothing else."""
    assert await loopback(FakeStream()) == Caller(CallerKind.LOOPBACK)
