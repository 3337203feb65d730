"""Frames: what is joined is what protobuf would have written."""

import pytest

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.encode.frame import DecodeError, any_header, decode_frame, field, frame, version_of


@pytest.mark.parametrize("size", [0, 1, 90, 127, 128, 300, 16_383, 16_384, 70_000])
def test_a_frame_equals_protobufs_own_serialisation_at_every_length_of_length(size: int) -> None:
    payload = bytes(size)
    response = discovery.DeltaDiscoveryResponse()
    resource = response.resources.add(name="n" * (size % 200 + 1), version="abc")
    resource.resource.type_url = "type"
    resource.resource.value = payload
    made = frame(resource.name, "abc", any_header("type"), payload)
    expected = response.SerializeToString()
    # An empty value is written here and left out there: the same message.
    assert made == expected or (not size and decode_frame(made).payload == b"")


def test_joined_frames_are_one_response() -> None:
    header = any_header("type")
    data = frame("a", "1", header, b"x") + field(b"\x2a", b"nonce") + frame("b", "2", header, b"y")
    response = discovery.DeltaDiscoveryResponse.FromString(data)
    assert [resource.name for resource in response.resources] == ["a", "b"]
    assert response.nonce == "nonce"


def test_versions_have_no_leading_zeros() -> None:
    """Go prints the number, not its bytes."""
    versions = {version_of(bytes([i, j])) for i in range(32) for j in range(32)}
    assert min(map(len, versions)) < 16
    assert not any(version.startswith("0") or version != version.lower() for version in versions)


@pytest.mark.parametrize("data", [b"\xff", b"", frame("a", "1", b"", b"x") * 2])
def test_what_is_not_one_frame_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frame(data)
