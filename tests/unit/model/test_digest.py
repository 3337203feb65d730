"""The digest over what two ends hold (decision D18), against the specification."""

import xxhash

from peerd.model.digest import digest


def test_the_digest_of_nothing_is_the_one_the_specification_names() -> None:
    """api/peering/v1/README.md, §3."""
    assert digest([]) == "99aa06d3014798d86001c324468d497f"


def test_order_does_not_matter_and_every_part_does() -> None:
    """By ascending names, each part ended by a zero byte."""
    pairs = [("b", "2"), ("a", "1")]
    assert digest(pairs) == digest(reversed(pairs)) == xxhash.xxh3_128_hexdigest(b"a\x001\x00b\x002\x00")
    assert len({digest(pairs), digest([("a", "1")]), digest([("a", "1b"), ("", "2")])}) == 3
