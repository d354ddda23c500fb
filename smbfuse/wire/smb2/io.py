"""READ: the hot pair of functions, and the cold classes that are their oracle.  [MS-SMB2] 2.2.19, 2.2.20."""

from struct import Struct
from typing import Annotated, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U8, U32, U64, Bytes16
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


DATA_OFFSET: Final = HEADER_SIZE + 16  # where READ data begins at the earliest

_READ_REQUEST: Final = Struct("<HBBIQ16sIIIHHB")
_READ_RESPONSE: Final = Struct("<HBxI8x")


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
