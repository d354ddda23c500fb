"""Extended attributes: names of some bytes with values of up to 64 KiB.  [MS-FSCC] 2.4.15.

Names travel as 8-bit text in the server's code page. UTF-8 goes in as it is, as the kernel client sends it, and comes
out as it went in; bytes that are none are kept as lone surrogates.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer, view

LONGEST_NAME: Final = 255  # bytes, the terminator apart
LARGEST_VALUE: Final = 0xFFFF  # bytes
ALIGNMENT: Final = 4

_HEAD: Final = Struct("<IBBH")  # NextEntryOffset, Flags, EaNameLength, EaValueLength


class ExtendedAttribute(NamedTuple):
    """One attribute; an empty value removes it when it is set, and is never answered."""

    name: str
    value: bytes
    flags: int = 0  # 0x80: whoever does not know the attribute must not use the file


def encode_name(name: str) -> bytes:
    """Return an attribute's name as it travels; raises ValueError if it can be no name (empty, too long, NUL)."""
    encoded = name.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) <= LONGEST_NAME or b"\0" in encoded:
        raise ValueError(f"{name!r} cannot be the name of an extended attribute")
    return encoded


def encode_attributes(attributes: Iterable[ExtendedAttribute]) -> bytes:
    """Return a FILE_FULL_EA_INFORMATION chain; raises ValueError for what is too long."""
    links = [_encode(attribute) for attribute in attributes]
    chain = bytearray()
    for number, link in enumerate(links, 1):
        if number < len(links):
            link += bytes(-len(link) % ALIGNMENT)
            link[:4] = len(link).to_bytes(4, "little")
        chain += link
    return bytes(chain)


def _encode(attribute: ExtendedAttribute) -> bytearray:
    name, value = encode_name(attribute.name), attribute.value
    if len(value) > LARGEST_VALUE:
        raise ValueError(f"{len(value)} bytes are too many for an extended attribute")
    return bytearray(_HEAD.pack(0, attribute.flags, len(name), len(value)) + name + b"\0" + value)


def decode_attributes(chain: Buffer) -> list[ExtendedAttribute]:
    """Read a FILE_FULL_EA_INFORMATION chain; an empty one has no attributes.

    Raises DecodeError for what does not lie inside the chain, and for entries that overlap.
    """
    attributes: list[ExtendedAttribute] = []
    data = memoryview(chain)
    at = 0
    while at < len(data):
        step, flags, name_length, value_length = _HEAD.unpack(view(data, at, _HEAD.size, "extended attribute"))
        name = view(data, at + _HEAD.size, name_length, "name of an extended attribute")
        value_at = at + _HEAD.size + name_length + 1
        value = view(data, value_at, value_length, "value of an extended attribute")
        attributes.append(ExtendedAttribute(str(name, "utf-8", "surrogateescape"), bytes(value), flags))
        if not step:
            return attributes
        if at + step < value_at + value_length:
            raise DecodeError(f"extended attribute at {at}: the next entry {step} bytes on lies in it")
        at += step
    if attributes:
        raise DecodeError(f"extended attribute at {at} in {len(data)} bytes")
    return attributes
