"""READ, WRITE and FLUSH: hot functions, and the cold classes that are their oracle.  [MS-SMB2] 2.2.17 to 2.2.22."""

from struct import Struct
from typing import Annotated, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U8, U16, U32, U64, Bytes16
from smbfuse.wire.smb2.message import HEADER_SIZE, Blob, Message, message


@message(structure_size=49)
class ReadRequest(Message):
    """SMB2 READ Request.  [MS-SMB2] 2.2.19."""

    padding: U8  # where we would like the data to start in the reply
    flags: U8
    length: U32  # bytes
    offset: U64  # bytes from the start of the file
    file_id: Bytes16
    minimum_count: U32
    channel: U32
    remaining_bytes: U32
    channel_info: Annotated[bytes, Blob("HH", empty="zero")]


@message(structure_size=17)
class ReadResponse(Message):
    """SMB2 READ Response.  [MS-SMB2] 2.2.20."""

    data: Annotated[bytes, Blob("BxI")]
    data_remaining: U32
    flags: U32  # reserved before 3.1.1


@message(structure_size=49)
class WriteRequest(Message):
    """SMB2 WRITE Request.  [MS-SMB2] 2.2.21."""

    data: Annotated[bytes, Blob("HI")]
    offset: U64  # bytes from the start of the file
    file_id: Bytes16
    channel: U32
    remaining_bytes: U32
    channel_info: Annotated[bytes, Blob("HH", empty="zero")]
    flags: U32  # 1: write through, on handles opened without it (2.1 and later)


@message(structure_size=17)
class WriteResponse(Message):
    """SMB2 WRITE Response.  [MS-SMB2] 2.2.22."""

    count: Annotated[int, "2xI"]  # bytes written
    remaining: U32  # reserved
    channel_info: Annotated[bytes, Blob("HH", empty="zero")]  # reserved


@message(structure_size=24)
class FlushRequest(Message):
    """SMB2 FLUSH Request.  [MS-SMB2] 2.2.17."""

    file_id: Annotated[bytes, "6x16s"]


@message(structure_size=4)
class FlushResponse(Message):
    """SMB2 FLUSH Response.  [MS-SMB2] 2.2.18."""

    reserved: U16 = 0


DATA_OFFSET: Final = HEADER_SIZE + 16  # where READ data begins at the earliest

_READ_REQUEST: Final = Struct("<HBBIQ16sIIIHHB")
_READ_RESPONSE: Final = Struct("<HBxI8x")
_WRITE_REQUEST: Final = Struct("<HHIQ16sIIHHI")
_WRITE_RESPONSE: Final = Struct("<H2xI")


def encode_read(file_id: bytes, offset: int, length: int) -> bytes:
    """Return the body of a READ request.  Equals `ReadRequest(…).encode()`, five times faster."""
    return _READ_REQUEST.pack(49, DATA_OFFSET, 0, length, offset, file_id, 0, 0, 0, 0, 0, 0)


def decode_read(element: memoryview) -> memoryview:
    """Return the data of a READ response as a view into `element`; nothing is copied.

    Raises DecodeError if the data does not lie inside the element.
    """
    if len(element) < DATA_OFFSET:
        raise DecodeError(f"ReadResponse: {len(element)} bytes")
    structure_size, data_offset, data_length = _READ_RESPONSE.unpack_from(element, HEADER_SIZE)
    end = data_offset + data_length
    if structure_size != 17 or end > len(element) or (data_length and data_offset < DATA_OFFSET):
        raise DecodeError(f"ReadResponse: data [{data_offset}, {end}) in {len(element)} bytes")
    return element[data_offset:end]


def encode_write(file_id: bytes, offset: int, length: int) -> bytes:
    """Return the body of a WRITE request up to its data, `length` bytes that follow as they are.

    Equals `WriteRequest(data, …).encode()` without the data.
    """
    data_offset = HEADER_SIZE + _WRITE_REQUEST.size
    return _WRITE_REQUEST.pack(49, data_offset, length, offset, file_id, 0, 0, 0, 0, 0)


def decode_write(element: memoryview) -> int:
    """Return how many bytes a WRITE response says were written; raises DecodeError."""
    if len(element) < HEADER_SIZE + _WRITE_RESPONSE.size:
        raise DecodeError(f"WriteResponse: {len(element)} bytes")
    structure_size, count = _WRITE_RESPONSE.unpack_from(element, HEADER_SIZE)
    if structure_size != 17:
        raise DecodeError(f"WriteResponse: StructureSize {structure_size} instead of 17")
    return int(count)
