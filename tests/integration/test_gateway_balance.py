"""How a real Envoy spreads calls over the endpoints that it is told: by weight, whatever their places."""

from collections import Counter

from peerd.cli.demo.hbone import Caller, Receiver
from peerd.model.address import Locality, parse_ip
from peerd.model.gateway_config import GatewayEndpoint, GatewayPlace
from tests.support.envoys import StaticEnvoy, material
from tests.support.gateways import GATEWAY_IDENTITY
from tests.support.ports import address_block

NAME = "reviews.shop.mesh.internal:80"
REVIEWS = "spiffe://cluster.local/ns/shop/sa/reviews"
FRONT = "spiffe://cluster.local/ns/web/sa/front"
HERE, NEAR, FAR = Locality("r1", "a"), Locality("r1", "b"), Locality("r2", "c")


async def test_calls_are_spread_by_weight_over_all_places(tmp_path):
    """One of our own zone, one of our region, two far ones of which one counts thrice: none is nearer."""
    block = address_block()
    weights = {f"{block}.10": 1, f"{block}.11": 1, f"{block}.12": 1, f"{block}.13": 3}
    where = dict(zip(weights, (HERE, NEAR, FAR, FAR), strict=True))

    def endpoint(address: str) -> GatewayEndpoint:
        return GatewayEndpoint(parse_ip(address) or b"", 15008, weights[address])

    places = tuple(
        GatewayPlace(place, tuple(endpoint(each) for each in weights if where[each] == place))
        for place in (HERE, NEAR, FAR)
    )
    gateway = StaticEnvoy(tmp_path, {NAME: []}, places=places, locality=HERE)
    receivers = [
        Receiver((each, 15008), material(gateway.ca, REVIEWS), (NAME,), lambda _, own=each: own.encode())
        for each in weights
    ]
    for receiver in receivers:
        await receiver.start()
    await gateway.start()
    caller = Caller(gateway.hbone, material(gateway.ca, FRONT), GATEWAY_IDENTITY, "east-net")
    try:
        answers = Counter([(await caller.request(NAME, (REVIEWS,), b"")).decode() for _ in range(120)])
    finally:
        await caller.close()
        await gateway.stop()
        for receiver in receivers:
            await receiver.stop()
    # Over one connection one worker thread counts, and it goes round by weight.
    assert {each: round(answers[each] / 20) for each in weights} == weights
