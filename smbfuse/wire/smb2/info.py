"""QUERY_DIRECTORY, QUERY_INFO and SET_INFO.  [MS-SMB2] 2.2.33, 2.2.34, 2.2.37 to 2.2.40."""

from enum import IntEnum, IntFlag
from typing import Annotated

from smbfuse.wire.record import U8, U32, Bytes16
from smbfuse.wire.smb2.message import Blob, Message, message, text


class QueryDirectoryFlags(IntFlag):
    """Where a listing goes on.  [MS-SMB2] 2.2.33."""

    RESTART_SCANS = 0x01
    RETURN_SINGLE_ENTRY = 0x02
    INDEX_SPECIFIED = 0x04
    REOPEN = 0x10


class InfoType(IntEnum):
    """Whose information is asked for.  [MS-SMB2] 2.2.37."""

    FILE = 1
    FILESYSTEM = 2
    SECURITY = 3
    QUOTA = 4


@message(structure_size=33)
class QueryDirectoryRequest(Message):
    """SMB2 QUERY_DIRECTORY Request.  [MS-SMB2] 2.2.33."""

    file_information_class: U8
    flags: U8
    file_index: U32
    file_id: Bytes16
    search_pattern: Annotated[str, text("HH")]
    output_buffer_length: U32  # largest page, bytes


@message(structure_size=9)
class QueryDirectoryResponse(Message):
    """SMB2 QUERY_DIRECTORY Response.  [MS-SMB2] 2.2.34.  The page is for `dirlist`."""

    page: Annotated[memoryview, Blob("HI", decode=memoryview)]


@message(structure_size=41)
class QueryInfoRequest(Message):
    """SMB2 QUERY_INFO Request.  [MS-SMB2] 2.2.37."""

    info_type: U8
    file_info_class: U8
    output_buffer_length: U32
    input_buffer: Annotated[bytes, Blob("H2xI", empty="zero")]
    additional_information: U32
    flags: U32
    file_id: Bytes16


@message(structure_size=9)
class QueryInfoResponse(Message):
    """SMB2 QUERY_INFO Response.  [MS-SMB2] 2.2.38."""

    data: Annotated[bytes, Blob("HI")]


@message(structure_size=33)
class SetInfoRequest(Message):
    """SMB2 SET_INFO Request.  [MS-SMB2] 2.2.39.  The data is a structure of [MS-FSCC] 2.4, or a security descriptor."""

    info_type: U8
    file_info_class: U8
    data: Annotated[bytes, Blob("IH2x", length_first=True)]
    additional_information: U32
    file_id: Bytes16


@message(structure_size=2)
class SetInfoResponse(Message):
    """SMB2 SET_INFO Response.  [MS-SMB2] 2.2.40.  Its coming is all that it says."""
