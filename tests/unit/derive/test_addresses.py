"""IP addresses and blocks: what is one, and what only looks like it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.derive.addresses import pack, parse_block
from peerd.model.address import NetworkAddress


@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=6)))
def test_every_address_packs_as_the_standard_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The quick way for IPv4 and the library agree."""
    assert pack(str(address)) == address.packed


@given(st.text("0123456789.:/x ", max_size=16))
def test_what_the_library_refuses_is_none(text: str) -> None:
    """No leading zeros, signs, spaces or missing parts."""
    try:
        expected: bytes | None = ipaddress.ip_address(text).packed
    except ValueError:
        expected = None
    assert pack(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/0.0.0.255",
        "10.0.0.0/",
        "/8",
        "a/8",
        "10.0.0.0/08",
        "fe80::%1/64",
    ],
)
def test_no_block(text: str) -> None:
    """Neither address nor block."""
    assert parse_block(text, "n") is None


def test_a_block_is_masked_and_a_single_address_has_no_length() -> None:
    """Length 0 is a block too: everything."""
    assert parse_block("10.1.2.3/8", "n") == NetworkAddress("n", b"\x0a\0\0\0", 8)
    assert parse_block("10.1.2.3/32", "n") == NetworkAddress("n", b"\x0a\x01\x02\x03")
    assert parse_block("0.0.0.0/0", "n") == NetworkAddress("n", bytes(4), 0)
