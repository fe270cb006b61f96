"""Thrift's compact protocol, as far as Parquet tells with it what is in a file.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Value = tuple[int, bytes]
"""What a field holds: its type, as the protocol numbers them, and its bytes."""


def varint(number: int) -> bytes:
    """A number, 0 at least: seven bits a byte, the lowest first."""
    if number <= 0x7F:  # as most
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def i32(number: int) -> Value:
    """A number, 0 at least, for a field of 32 bits."""
    return 5, varint(number << 1)


def i64(number: int) -> Value:
    """A number, 0 at least, for a field of 64 bits."""
    return 6, varint(number << 1)


def binary(data: bytes) -> Value:
    """Bytes, or a text."""
    return 8, varint(len(data)) + data


def array(values: Sequence[Value]) -> Value:
    """Values of one type; none are no structures."""
    n, kind = len(values), values[0][0] if values else 12
    head = bytes([n << 4 | kind]) if n < 15 else bytes([0xF0 | kind]) + varint(n)
    return 9, head + b"".join([data for _, data in values])


def struct(fields: Mapping[int, Value]) -> Value:
    """A structure with these fields, by their numbers, which ascend by less than 16."""
    parts, before = [], 0
    for number, (kind, data) in fields.items():
        parts += [bytes((number - before << 4 | kind,)), data]
        before = number
    return 12, b"".join(parts) + b"\0"
