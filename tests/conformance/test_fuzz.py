"""Anything may arrive: every decoder and the machine behind it, fed with mutations of real requests.

Only inputs that get past framing (that are messages at all) are counted. The branches of `peerd/protocol`
that they reach are printed: `pytest -s tests/conformance/test_fuzz.py`.
"""

import asyncio
import base64
import json
import random
import resource as process
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.wire import map_entry, read_map_entry, with_fields
from peerd.protocol import server as protocol_server
from peerd.protocol.client import DeltaClient
from peerd.protocol.debug import parse_debug_request
from peerd.protocol.envelope import parse_delta_request, parse_delta_response
from peerd.protocol.errors import MalformedMessageError, ProtocolError
from peerd.serve.admission import AdmissionLimits
from peerd.transport.base import StreamClosed
from peerd.transport.memory import MemoryNetwork, MemoryServer
from tests.support.ads import running_ads
from tests.support.delta import NODE, Driver, drop, names, policy, put, ztunnel_store

COUNTED = 100_000
PER_STREAM = 40  # requests to one machine before it is replaced
TRACED = 50  # every so many machines are watched for the branches they reach
BOUND = 128 * 1024 * 1024  # growth of the process over the whole run
SEED = 20_261_121

TRANSCRIPTS = Path(__file__).parent / "transcripts"
ROOM = str(Path(protocol_server.__file__).parent)
WORDS = (
    "*",
    "",
    "w0",
    "w1",
    "ns/svc",
    "n/1",
    "n/2",
    "gone",
    "x" * 300,
    "ü",
    "a/b/c",
    "service/ns/svc",
    "w0: bad; w1",
)
TYPES = (ADDRESS, AUTHORIZATION, "", "type.googleapis.com/new.Type", "istio.io/debug/syncz")
WORLD = (
    put("w0", b"1", aliases=("n/1",), groups=("node/node-a", "service/ns/svc")),
    put("w1", b"2", groups=("service/ns/svc",)),
    put("ns/svc", b"3", aliases=("n/2",)),
    policy("ns/p", b"4"),
)


def recorded_requests() -> list[bytes]:
    return [
        base64.b64decode(entry["bytes"])
        for path in sorted(TRANSCRIPTS.glob("*.json"))
        for entry in json.loads(path.read_text())
        if entry["from"] == "client"
    ]


class Mutator:
    """Requests that were never sent by anybody."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seeds = recorded_requests()

    def next(self, nonces: list[str]) -> bytes:
        """A request: recorded and damaged, or made of fields; *nonces* are those that are outstanding."""
        if self._random.random() < 0.5:
            return self._damaged()
        return self._made(nonces)

    def _damaged(self) -> bytes:
        rng = self._random
        data = bytearray(rng.choice(self._seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data)) if data else 0
            match rng.randrange(5):
                case 0 if data:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randint(1, 20)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
                case 3:
                    data[at:at] = data[at : at + rng.randint(1, 60)]
                case _:
                    other = rng.choice(self._seeds)
                    data[at:] = other[rng.randrange(len(other)) :]
        return bytes(data)

    def _made(self, nonces: list[str]) -> bytes:
        rng = self._random
        words = lambda most: [rng.choice(WORDS) for _ in range(rng.randrange(most))]  # noqa: E731
        request = discovery.DeltaDiscoveryRequest(
            type_url=rng.choice(TYPES if rng.random() < 0.2 else TYPES[:2]),
            resource_names_subscribe=words(4),
            resource_names_unsubscribe=words(3),
            initial_resource_versions=[
                rng.randbytes(rng.randrange(12))
                if rng.random() < 0.05
                else map_entry(word, rng.choice(WORDS))
                for word in words(4)
            ],
        )
        if rng.random() < 0.6:
            request.response_nonce = rng.choice([*nonces, "stale", "x" * 200])
        if rng.random() < 0.2:
            request.error_detail.message = "; ".join(f"{word}: bad" for word in words(5))
        return request.SerializeToString()


class Branches:
    """Which jumps from line to line inside `peerd/protocol` were taken."""

    def __init__(self) -> None:
        self.taken: set[tuple[str, int, int]] = set()

    def __enter__(self) -> None:
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        name, last = Path(frame.f_code.co_filename).name, frame.f_lineno

        def line(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                self.taken.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line


def one_stream(mutator: Mutator, outcomes: Counter[str]) -> int:
    """A machine, and requests until it ends the stream; returns how many got past framing."""
    driver = Driver(ztunnel_store(log_names=6))
    driver.publish(*WORLD)
    counted = 0
    for turn in range(PER_STREAM):
        nonces = [nonce for each in driver.server._ordered for nonce in each.outstanding]
        message = mutator.next(nonces)
        try:
            request = parse_delta_request(message)
        except MalformedMessageError:
            continue
        counted += 1
        try:
            driver.server.receive(request, driver.clock.now)
            for _ in driver.server.compare():
                pass
            if turn % 5 == 0:
                driver.publish(put("w0", b"%d" % turn, aliases=("n/1",)), drop("w1"), put("n/2"))
            for _ in range(4):
                if driver.outgoing() is None:
                    break
            driver.clock.now += 0.5
            driver.server.check(driver.clock.now)
            outcomes["ok"] += 1
        except ProtocolError as error:
            outcomes[type(error).__name__] += 1
            break
    driver.server.close()
    assert len(driver.interest) == 0, "a stream that ended is still followed"
    return counted


def test_no_request_gets_past_the_error_tree() -> None:
    """100,000 messages: each is answered or ends its own stream with a status; memory stays where it was."""
    mutator, branches = Mutator(SEED), Branches()
    outcomes: Counter[str] = Counter()
    before = process.getrusage(process.RUSAGE_SELF).ru_maxrss * 1024
    counted = machines = 0
    while counted < COUNTED:
        machines += 1
        if machines % TRACED == 1:
            with branches:
                counted += one_stream(mutator, outcomes)
        else:
            counted += one_stream(mutator, outcomes)
    grown = process.getrusage(process.RUSAGE_SELF).ru_maxrss * 1024 - before
    files = Counter(name for name, _, _ in branches.taken)
    print(f"\n{counted} messages past framing on {machines} streams, {dict(outcomes)}")
    print(f"{len(branches.taken)} branches of peerd/protocol: {dict(sorted(files.items()))}")
    assert grown < BOUND
    assert outcomes["ok"] > COUNTED / 4, "most requests should get far"
    assert {"MalformedMessageError", "BehindError", "LimitExceededError"} & outcomes.keys()
    # Both kinds of subscription, resume and NACKs were really reached.
    assert {
        "server.py",
        "subscription.py",
        "wildcard.py",
        "named.py",
        "envelope.py",
        "interest.py",
    } <= files.keys()
    assert len(branches.taken) > 300


DECODERS = {
    "request": parse_delta_request,
    "response": parse_delta_response,
    "debug": parse_debug_request,
    "client": DeltaClient((ADDRESS,), NODE).receive,
}


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=500)
@given(data=st.one_of(st.binary(max_size=200), st.sampled_from(recorded_requests()).map(lambda m: m[1:])))
def test_decoders_give_a_record_or_a_protocol_error(decoder: str, data: bytes) -> None:
    try:
        DECODERS[decoder](data)
    except MalformedMessageError:
        return


@settings(max_examples=1000)
@given(st.binary(max_size=64))
def test_hand_written_wire_code_gives_a_value_or_a_value_error(data: bytes) -> None:
    for decode in (read_map_entry, lambda frame: with_fields(frame, b"")):
        try:
            decode(data)
        except ValueError:
            continue


@given(st.text(max_size=300), st.text(max_size=300))
def test_map_entries_come_back_as_they_went(key: str, value: str) -> None:
    assert read_map_entry(map_entry(key, value)) == (key, value)


async def test_streams_of_rubbish_leave_a_good_one_alone() -> None:
    """2,000 streams of damaged requests beside a ztunnel that goes on being served."""
    mutator = Mutator(SEED + 1)
    async with running_ads(WORLD, limits=AdmissionLimits(streams_per_second=100_000)) as ads:
        network = MemoryNetwork()
        server = MemoryServer(network, "ads", ads.service.handlers)
        await server.start()
        client = DeltaClient((ADDRESS, AUTHORIZATION), NODE)
        good = await network.channel("ads").open(DELTA_METHOD)
        for message in client.start():
            await good.send(message)

        async def take() -> list[str]:
            response = client.receive(await asyncio.wait_for(good.receive(), 30) or b"")
            await good.send(client.accept(response))
            return names(response)

        assert await take() == ["ns/p"]
        assert sorted(await take()) == ["ns/svc", "w0", "w1"]
        statuses: Counter[str] = Counter()
        for turn in range(2_000):
            bad = await network.channel("ads").open(DELTA_METHOD)
            try:
                for _ in range(3):
                    await bad.send(mutator.next([]))
                    await asyncio.sleep(0)
            except StreamClosed as closed:
                statuses[closed.code.name] += 1
            await bad.cancel()
            if turn % 100 == 0:
                ads.commit([put(f"new-{turn}")])
                assert await take() == [f"new-{turn}"]
        async with asyncio.timeout(30):
            while len(ads.registry) > 1:  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.01)
        assert len(ads.registry) == 1
        assert set(statuses) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
        await good.cancel()
        await server.close(1)
