"""Extended attributes as SMB1 lists them.  [MS-CIFS] 2.2.1.2.2."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from smbfuse.errors import DecodeError
from smbfuse.wire.fscc_ea import LARGEST_VALUE, ExtendedAttribute, encode_name
from smbfuse.wire.record import Buffer, view

INFO_QUERY_ALL_EAS: Final = 0x0004  # level of QUERY_PATH_INFORMATION.  [MS-CIFS] 2.2.2.3.3

_SIZE: Final = Struct("<I")  # SizeOfListInBytes, itself included
_HEAD: Final = Struct("<BBH")  # ExtendedAttributeFlag, AttributeNameLengthInBytes, AttributeValueLengthInBytes


def encode_list(attributes: Iterable[ExtendedAttribute]) -> bytes:
    """Return an SMB_FEA_LIST; raises ValueError for what is too long."""
    entries = bytearray()
    for attribute in attributes:
        name = encode_name(attribute.name)
        if len(attribute.value) > LARGEST_VALUE:
            raise ValueError(f"{len(attribute.value)} bytes are too many for an extended attribute")
        entries += _HEAD.pack(attribute.flags, len(name), len(attribute.value)) + name + b"\0" + attribute.value
    return _SIZE.pack(_SIZE.size + len(entries)) + entries


def decode_list(data: Buffer) -> list[ExtendedAttribute]:
    """Read an SMB_FEA_LIST, in which nothing has attributes by a size of 0 as well.

    Raises DecodeError for what does not lie inside the list, or the list inside `data`.
    """
    (size,) = _SIZE.unpack(view(data, 0, _SIZE.size, "list of extended attributes"))
    if not size:
        return []
    if size < _SIZE.size:
        raise DecodeError(f"list of extended attributes: {size} bytes")
    entries = view(data, _SIZE.size, size - _SIZE.size, "extended attributes")
    attributes: list[ExtendedAttribute] = []
    at = 0
    while at < len(entries):
        flags, name_length, value_length = _HEAD.unpack(view(entries, at, _HEAD.size, "extended attribute"))
        at += _HEAD.size
        name = view(entries, at, name_length, "name of an extended attribute")
        at += name_length + 1
        value = view(entries, at, value_length, "value of an extended attribute")
        at += value_length
        attributes.append(ExtendedAttribute(str(name, "utf-8", "surrogateescape"), bytes(value), flags))
    return attributes
