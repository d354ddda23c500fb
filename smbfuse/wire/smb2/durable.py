"""Durable handles: opens that outlive their connection, asked for and reclaimed by create contexts.

Version 1 (2.0.2 and later) knows an open by its FileId; version 2 (3.x) by the CreateGuid of its CREATE too, and can
make it persistent: it outlives the server's own restart then.
[MS-SMB2] 2.2.13.2.3, 2.2.13.2.4, 2.2.13.2.11, 2.2.13.2.12; 2.2.14.2.3, 2.2.14.2.12.
"""

from enum import IntFlag
from typing import Annotated, Final

from smbfuse.wire.record import U32, Bytes16, Record, record

# The names of the create contexts. Each response has the name of its request; neither reconnect has a response.
DURABLE_REQUEST: Final = b"DHnQ"
DURABLE_RECONNECT: Final = b"DHnC"
DURABLE_REQUEST_V2: Final = b"DH2Q"
DURABLE_RECONNECT_V2: Final = b"DH2C"


class DurableFlags(IntFlag):
    """Flags of a durable handle of version 2.  [MS-SMB2] 2.2.13.2.11."""

    PERSISTENT = 2


@record(tail_pad=16)
class DurableRequest(Record):
    """SMB2_CREATE_DURABLE_HANDLE_REQUEST (DHnQ).  [MS-SMB2] 2.2.13.2.3.  16 bytes, all reserved."""


@record(tail_pad=8)
class DurableResponse(Record):
    """SMB2_CREATE_DURABLE_HANDLE_RESPONSE (DHnQ).  [MS-SMB2] 2.2.14.2.3.  8 bytes, all reserved."""


@record()
class DurableReconnect(Record):
    """SMB2_CREATE_DURABLE_HANDLE_RECONNECT (DHnC).  [MS-SMB2] 2.2.13.2.4.  16 bytes."""

    file_id: Bytes16


@record()
class DurableRequestV2(Record):
    """SMB2_CREATE_DURABLE_HANDLE_REQUEST_V2 (DH2Q).  [MS-SMB2] 2.2.13.2.11.  32 bytes."""

    timeout: U32  # milliseconds that the server is to wait for us; 0: as long as it likes
    flags: Annotated[int, "I8x"]
    create_guid: Bytes16


@record()
class DurableResponseV2(Record):
    """SMB2_CREATE_DURABLE_HANDLE_RESPONSE_V2 (DH2Q).  [MS-SMB2] 2.2.14.2.12.  8 bytes."""

    timeout: U32  # milliseconds that the server waits for us
    flags: U32


@record()
class DurableReconnectV2(Record):
    """SMB2_CREATE_DURABLE_HANDLE_RECONNECT_V2 (DH2C).  [MS-SMB2] 2.2.13.2.12.  36 bytes."""

    file_id: Bytes16
    create_guid: Bytes16
    flags: U32
