"""CHANGE_NOTIFY.  [MS-SMB2] 2.2.35, 2.2.36.  What it tells is for `wire.notify`."""

from enum import IntFlag
from typing import Annotated

from smbfuse.wire.record import U16, U32, Bytes16
from smbfuse.wire.smb2.message import Blob, Message, message


class ChangeNotifyFlags(IntFlag):
    """Flags of a CHANGE_NOTIFY.  [MS-SMB2] 2.2.35."""

    WATCH_TREE = 0x0001


@message(structure_size=32)
class ChangeNotifyRequest(Message):
    """SMB2 CHANGE_NOTIFY Request.  [MS-SMB2] 2.2.35.  `completion_filter`: see `wire.notify.CompletionFilter`."""

    flags: U16
    output_buffer_length: U32  # most that one answer may tell, bytes
    file_id: Bytes16
    completion_filter: Annotated[int, "I4x"]


@message(structure_size=9)
class ChangeNotifyResponse(Message):
    """SMB2 CHANGE_NOTIFY Response.  [MS-SMB2] 2.2.36.  Empty where more has happened than fits."""

    changes: Annotated[memoryview, Blob("HI", decode=memoryview)]
