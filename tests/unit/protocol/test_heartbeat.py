"""Heartbeats: every 15 s, silence after 45 s, answers to what was asked only."""

import pytest

from peerd.protocol.heartbeat import HeartbeatClient
from peerd.protocol.peer_wire import PeerProtocolError, decode_heartbeat, encode_heartbeat


def test_the_first_goes_at_once_and_the_others_every_15_seconds() -> None:
    client = HeartbeatClient(100.0)
    sent = [now for now in range(100, 160) if client.due(float(now)) is not None]
    assert sent == [100, 115, 130, 145]


def test_sequence_numbers_grow() -> None:
    client = HeartbeatClient(0.0)
    numbers = [decode_heartbeat(client.due(15.0 * n) or b"") for n in range(3)]
    assert numbers == [1, 2, 3]


def test_silence_is_45_seconds_without_an_answer_whatever_is_sent() -> None:
    client = HeartbeatClient(0.0)
    for second in range(45):
        client.due(float(second))
        assert not client.silent(float(second))
    assert client.silent(45.0)


def test_an_answer_is_a_sign_of_life_and_measures_the_round_trip() -> None:
    client = HeartbeatClient(0.0)
    message = client.due(0.0)
    assert message is not None
    assert client.heard(message, 0.25) == 0.25, "so old is the sign of life"
    assert client.round_trip == 0.25
    assert not client.silent(45.0)
    assert client.silent(45.25)


def test_an_answer_to_nothing_or_twice_breaks_the_protocol() -> None:
    client = HeartbeatClient(0.0)
    message = client.due(0.0) or b""
    client.heard(message, 1.0)
    with pytest.raises(PeerProtocolError, match="heartbeat 1 answers nothing"):
        client.heard(message, 2.0)
    with pytest.raises(PeerProtocolError, match="heartbeat 9 answers nothing"):
        client.heard(encode_heartbeat(9), 2.0)
    with pytest.raises(PeerProtocolError, match="not a Heartbeat"):
        client.heard(b"\xff", 2.0)


def test_unanswered_numbers_are_not_kept_for_ever() -> None:
    client = HeartbeatClient(0.0)
    last = b""
    for beat in range(1000):
        last = client.due(15.0 * beat) or last
    client.heard(last, 15_000.0)
    assert client._sent_at == {}


def test_waiting_is_until_the_next_heartbeat_or_the_verdict() -> None:
    client = HeartbeatClient(0.0)
    assert client.wait(0.0) == 0.0
    client.due(0.0)
    assert client.wait(5.0) == 10.0
    client.due(44.0)
    assert client.wait(44.0) == 1.0
