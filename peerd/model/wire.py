"""The little of the protobuf wire format that is written by hand, so that frames are joined, not built.

Everything here is a length-delimited field (wire type 2) with a number below 16: one tag byte, the length as
a varint, the bytes.
"""


def varint(value: int) -> bytes:
    """*value* >= 0 as a protobuf varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field; *number* is 1 to 15."""
    return bytes((number << 3 | 2,)) + varint(len(content)) + content


def map_entry(key: str, value: str) -> bytes:
    """The content of one entry of a `map<string, string>`, as known encoders write it: key, then value."""
    return field(1, key.encode()) + field(2, value.encode())


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at *at* and where it ends.

    Raises:
        ValueError: the varint is cut off or longer than 64 bits.
    """
    value = shift = 0
    while shift < 64:
        if at >= len(data):
            raise ValueError("a varint is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a varint is longer than 64 bits")


def read_map_entry(data: bytes) -> tuple[str, str]:
    """Key and value of a `map<string, string>` entry, in whatever order and with whatever left out.

    Raises:
        ValueError: *data* is cut off, holds a field of another wire type, or is not UTF-8.
    """
    key = value = ""
    at = 0
    while at < len(data):
        tag = data[at]
        length, start = read_varint(data, at + 1)
        at = start + length
        if tag & 7 != 2 or at > len(data):
            raise ValueError("a map entry is malformed")
        if tag == 0x0A:
            key = data[start:at].decode()
        elif tag == 0x12:
            value = data[start:at].decode()
    return key, value


def with_fields(frame: bytes, fields: bytes) -> bytes:
    """The length-delimited *frame* (tag, length, content) with encoded *fields* added to its content.

    Raises:
        ValueError: the frame's length is not a varint.
    """
    _, start = read_varint(frame, 1)
    content = frame[start:]
    return frame[:1] + varint(len(content) + len(fields)) + content + fields
