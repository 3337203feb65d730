"""Whom the peer port serves (decisions D14, D16): identity, and what a stream says of itself."""

import msgspec
import pytest

from peerd.limits import PEER_METADATA_CHARACTERS, hits
from peerd.model.federation import RemotePeer
from peerd.model.identity import SpiffeId
from peerd.model.kube.meta import ObjectKey
from peerd.protocol.peer_wire import Hello
from peerd.serve.peer_acceptance import Acceptance
from peerd.transport.base import PeerCertificate, StatusCode, StreamClosed
from tests.support.fake_stream import FakeStream

OWN = SpiffeId("cluster.local", "istio-system", "peerd")
WEST = RemotePeer(
    ObjectKey("istio-system", "west"), "west", "net", ("192.0.2.1",), 15012, "west.local", "mesh", "control"
)
WORKLOAD = "spiffe://cluster.local/ns/shop/sa/reviews"


def call(metadata: dict[str, str], certificate: PeerCertificate | None = None) -> FakeStream:
    return FakeStream(metadata=metadata, certificate=certificate)


def asked(acceptance: Acceptance, *uris: str, issuer: str = "ab", hello: Hello | None = None) -> str:
    """The refusal, empty where the stream is admitted."""
    metadata = (hello or Hello("west", "peerd-0")).metadata()
    try:
        acceptance.admit(call(metadata, PeerCertificate(uris, issuer, 2e9)))
    except StreamClosed as closed:
        return closed.message if closed.code is StatusCode.PERMISSION_DENIED else f"not refused: {closed}"
    return ""


@pytest.fixture
def acceptance() -> Acceptance:
    return Acceptance(OWN, "east", ["other.local"])


def test_control_planes_of_accepted_trust_domains_are_admitted(acceptance: Acceptance) -> None:
    assert asked(acceptance, str(OWN)) == ""
    assert asked(acceptance, "spiffe://other.local/ns/istio-system/sa/peerd") == ""


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        ((), "exactly one URI, and names none"),
        ((str(OWN), WORKLOAD), "exactly one URI"),
        ((WORKLOAD, str(OWN)), "exactly one URI"),
        ((WORKLOAD,), "is not a control plane of a peer"),
        (("spiffe://third.local/ns/istio-system/sa/peerd",), "of trust domain 'third.local'"),
        (("https://cluster.local/peerd",), "cannot be an identity"),
    ],
)
def test_everybody_else_is_refused_with_the_reason(
    acceptance: Acceptance, uris: tuple[str, ...], words: str
) -> None:
    """Several names too, even where one of them would do (ADR 6)."""
    reason = asked(acceptance, *uris)
    assert reason.startswith("cluster east refuses cluster west: ")
    assert words in reason


def test_a_gateway_adds_the_control_plane_it_names_until_it_is_deleted(acceptance: Acceptance) -> None:
    theirs = "spiffe://west.local/ns/mesh/sa/control"
    assert asked(acceptance, theirs)
    acceptance.configure("istio-system/west", WEST)
    assert asked(acceptance, theirs) == ""
    acceptance.configure("istio-system/west", None)
    assert asked(acceptance, theirs)


def test_every_pin_of_a_gateway_for_the_cluster_counts(acceptance: Acceptance) -> None:
    acceptance.configure("istio-system/west", msgspec.structs.replace(WEST, issuer="ab"))
    assert asked(acceptance, str(OWN), issuer="ab") == ""
    assert "with key cd, pinned is ab" in asked(acceptance, str(OWN), issuer="cd")
    assert asked(acceptance, str(OWN), issuer="cd", hello=Hello("north", "peerd-0")) == ""
    acceptance.configure("istio-system/again", msgspec.structs.replace(WEST, issuer="cd"))
    assert "pinned is ab" in asked(acceptance, str(OWN), issuer="cd")


def test_long_metadata_is_refused_and_counted(acceptance: Acceptance) -> None:
    certificate = PeerCertificate((str(OWN),), "ab", 2e9)
    before = hits(PEER_METADATA_CHARACTERS)
    longest = Hello("w" * PEER_METADATA_CHARACTERS.value, "peerd-0")
    assert acceptance.admit(call(longest.metadata(), certificate))[0] == longest
    with pytest.raises(StreamClosed, match="peering-instance is longer than 253"):
        acceptance.admit(call(Hello("west", "p" * 254).metadata(), certificate))
    assert hits(PEER_METADATA_CHARACTERS) == before + 1


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (call(Hello("west", "peerd-0").metadata()), StatusCode.UNAUTHENTICATED),
        (call({}, PeerCertificate((str(OWN),), "ab", 2e9)), StatusCode.INVALID_ARGUMENT),
        (
            call(
                Hello("west", "peerd-0", versions=("9",)).metadata(), PeerCertificate((str(OWN),), "ab", 2e9)
            ),
            StatusCode.FAILED_PRECONDITION,
        ),
    ],
)
def test_each_other_refusal_has_its_status(
    acceptance: Acceptance, stream: FakeStream, code: StatusCode
) -> None:
    with pytest.raises(StreamClosed) as caught:
        acceptance.admit(stream)
    assert caught.value.code is code
