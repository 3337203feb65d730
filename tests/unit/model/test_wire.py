"""The hand-written part of the protobuf wire format, against the published encoding."""

import pytest

from peerd.model.wire import read_varint, varint


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (15008, b"\xa0\x75")]
)
def test_varints(value: int, data: bytes) -> None:
    """Written and read."""
    assert varint(value) == data
    assert read_varint(data, 0) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10 + b"\x01"])
def test_varints_that_are_cut_off_or_too_long_are_refused(data: bytes) -> None:
    """With an error of values, whatever the bytes."""
    with pytest.raises(ValueError, match="varint"):
        read_varint(data, 0)
