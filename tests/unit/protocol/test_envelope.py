"""Requests as records: what is too much is refused before anything is made of it."""

import pytest

from peerd.limits import NAMES_PER_STREAM, NODE_METADATA_BYTES, REFUSAL_TEXT, hits
from peerd.model.types import ADDRESS
from peerd.protocol.envelope import Node, delta_request, parse_delta_request
from peerd.protocol.errors import LimitExceededError

ID = "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local"


@pytest.mark.parametrize("field", ["subscribe", "unsubscribe"])
def test_a_request_names_no_more_than_a_stream_may(field: str) -> None:
    before = hits(NAMES_PER_STREAM)
    names = [f"n{index}" for index in range(NAMES_PER_STREAM.value + 1)]
    parse_delta_request(delta_request(ADDRESS, **{field: names[1:]}))
    with pytest.raises(LimitExceededError, match="50001 names in one request"):
        parse_delta_request(delta_request(ADDRESS, **{field: names}))
    assert hits(NAMES_PER_STREAM) == before + 1


def test_the_text_of_a_refusal_is_cut_off() -> None:
    """It is read part by part and kept."""
    before = hits(REFUSAL_TEXT)
    text = "n: bad; " * (REFUSAL_TEXT.value // 8)
    assert parse_delta_request(delta_request(ADDRESS, nonce="n", error=text)).error == text
    assert hits(REFUSAL_TEXT) == before
    assert parse_delta_request(delta_request(ADDRESS, nonce="n", error=text + "x")).error == text
    assert hits(REFUSAL_TEXT) == before + 1


def test_a_client_says_only_so_much_of_itself() -> None:
    """It is kept as long as the stream, as Python objects ten times the size."""
    before = hits(NODE_METADATA_BYTES)
    much = Node(ID, "", {"LABEL": "x" * (NODE_METADATA_BYTES.value - 100)})
    assert parse_delta_request(delta_request(ADDRESS, node=much)).node == much
    more = Node(ID, "", {"LABEL": "x" * NODE_METADATA_BYTES.value})
    with pytest.raises(LimitExceededError, match=r"metadata have .* the limit is 65536"):
        parse_delta_request(delta_request(ADDRESS, node=more))
    assert hits(NODE_METADATA_BYTES) == before + 1
