"""Policies: every field survives, and what is not set stays unset."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from peerd.api.istio import security_pb2
from peerd.encode.frame import DecodeError, EncodeError, decode_frame
from peerd.encode.policy import decode_policy, encode_policy
from peerd.model.authorization import (
    Action,
    AddressBlock,
    Authorization,
    Clause,
    Match,
    MatchKind,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
)
from peerd.model.types import AUTHORIZATION

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["policies"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_recorded_policy_keeps_its_meaning(name: str) -> None:
    message = json_format.ParseDict(GOLDEN[name], security_pb2.Authorization())
    record = decode_policy(message.SerializeToString())
    frame = decode_frame(encode_policy(record).frame)
    assert (frame.name, frame.type_url) == (name, AUTHORIZATION)
    assert security_pb2.Authorization.FromString(frame.payload) == message


def test_every_field_of_a_policy_survives_encoding() -> None:
    strings = tuple(StringMatch(kind, "" if kind is MatchKind.PRESENCE else kind.name) for kind in MatchKind)
    blocks = (AddressBlock(b"\x0a\x00\x00\x00", 8), AddressBlock(bytes(16), 0))
    accounts = (ServiceAccountMatch("ns", "sa"),)
    match = Match(
        strings, strings[:1], strings[1:2], strings[3:],
        blocks, blocks[:1], blocks[1:], blocks[::-1],
        (80, 443), (8080,),
        accounts, accounts * 2,
    )  # fmt: skip
    record = Authorization(
        "p",
        "ns",
        PolicyScope.WORKLOAD_SELECTOR,
        Action.DENY,
        (Rule((Clause((match, Match())), Clause())), Rule()),
        dry_run=True,
    )
    assert decode_policy(decode_frame(encode_policy(record).frame).payload) == record


def test_a_policy_that_does_not_fit_is_an_error_that_names_it() -> None:
    rule = Rule((Clause((Match(destination_ports=(-1,)),)),))
    with pytest.raises(EncodeError, match="'ns/p' cannot be encoded"):
        encode_policy(Authorization("p", "ns", rules=(rule,)))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff", "not an istio.security.Authorization"),
        (b"\x18\x09", "9 is not a valid PolicyScope"),
        (b"\x2a\x06\x0a\x04\x12\x02\x0a\x00", "a string match that is not set"),
    ],
)
def test_what_ztunnel_would_reject_or_drop_is_not_decoded(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_policy(payload)
