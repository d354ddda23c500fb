"""Sessions and trees: SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT.  [MS-SMB2] 2.2.5 to 2.2.12."""

from enum import IntEnum, IntFlag
from typing import Annotated

from smbfuse.wire.record import U8, U16, U32, U64
from smbfuse.wire.smb2.message import Blob, Message, message, text


class SessionFlags(IntFlag):
    """What the server made of a login.  [MS-SMB2] 2.2.6."""

    IS_GUEST = 1
    IS_NULL = 2
    ENCRYPT_DATA = 4


class ShareType(IntEnum):
    """Kinds of shares.  [MS-SMB2] 2.2.10."""

    DISK = 1
    PIPE = 2
    PRINT = 3


class ShareFlags(IntFlag):
    """Properties of a share.  [MS-SMB2] 2.2.10."""

    DFS = 0x1
    DFS_ROOT = 0x2
    ENCRYPT_DATA = 0x8000
    COMPRESS_DATA = 0x100000


class ShareCapabilities(IntFlag):
    """What a share can do.  [MS-SMB2] 2.2.10."""

    DFS = 0x08
    CONTINUOUS_AVAILABILITY = 0x10
    SCALEOUT = 0x20
    CLUSTER = 0x40
    ASYMMETRIC = 0x80


@message(structure_size=25)
class SessionSetupRequest(Message):
    """SMB2 SESSION_SETUP Request.  [MS-SMB2] 2.2.5."""

    flags: U8  # 1: bind a further channel to a session
    security_mode: U8
    capabilities: U32
    channel: U32  # reserved
    token: Annotated[bytes, Blob("HH")]
    previous_session_id: U64


@message(structure_size=9)
class SessionSetupResponse(Message):
    """SMB2 SESSION_SETUP Response.  [MS-SMB2] 2.2.6."""

    session_flags: U16
    token: Annotated[bytes, Blob("HH")]


@message(structure_size=4)
class LogoffRequest(Message):
    """SMB2 LOGOFF Request.  [MS-SMB2] 2.2.7."""

    reserved: U16 = 0


@message(structure_size=4)
class LogoffResponse(Message):
    """SMB2 LOGOFF Response.  [MS-SMB2] 2.2.8."""

    reserved: U16 = 0


@message(structure_size=9)
class TreeConnectRequest(Message):
    r"""SMB2 TREE_CONNECT Request.  [MS-SMB2] 2.2.9.  The path is `\\host\share`."""

    flags: U16
    path: Annotated[str, text("HH")]


@message(structure_size=16)
class TreeConnectResponse(Message):
    """SMB2 TREE_CONNECT Response.  [MS-SMB2] 2.2.10."""

    share_type: Annotated[int, "Bx"]
    share_flags: U32
    capabilities: U32
    maximal_access: U32


@message(structure_size=4)
class TreeDisconnectRequest(Message):
    """SMB2 TREE_DISCONNECT Request.  [MS-SMB2] 2.2.11."""

    reserved: U16 = 0


@message(structure_size=4)
class TreeDisconnectResponse(Message):
    """SMB2 TREE_DISCONNECT Response.  [MS-SMB2] 2.2.12."""

    reserved: U16 = 0
