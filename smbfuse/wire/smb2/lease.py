"""Leases: what a CREATE asks for and is granted.  [MS-SMB2] 2.2.13.2.8, 2.2.13.2.10, 2.2.14.2.10, 2.2.14.2.11.

Request and response are the same structure. Version 1 is for 2.1 and for servers that answer with it; version 2, from
3.0, has an epoch that counts the changes of the lease, and the key of the folder's own lease.
"""

from enum import IntFlag
from typing import Annotated, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U32, U64, Buffer, Bytes16, Record, record

LEASE: Final = b"RqLs"  # the name of the create context, of either version

EPOCHS: Final = 1 << 16
_NEWER: Final = EPOCHS // 2


class LeaseState(IntFlag):
    """What a lease allows to cache.  [MS-SMB2] 2.2.13.2.8."""

    NONE = 0
    READ_CACHING = 1
    HANDLE_CACHING = 2
    WRITE_CACHING = 4


class LeaseFlags(IntFlag):
    """Flags of a lease context.  [MS-SMB2] 2.2.13.2.10, 2.2.14.2.10."""

    BREAK_IN_PROGRESS = 2
    PARENT_LEASE_KEY_SET = 4


@record()
class LeaseV1(Record):
    """SMB2_CREATE_REQUEST_LEASE and its response.  [MS-SMB2] 2.2.13.2.8, 2.2.14.2.10.  32 bytes."""

    lease_key: Bytes16
    lease_state: U32
    lease_flags: U32 = 0
    lease_duration: U64 = 0  # reserved


@record()
class LeaseV2(Record):
    """SMB2_CREATE_REQUEST_LEASE_V2 and its response.  [MS-SMB2] 2.2.13.2.10, 2.2.14.2.11.  52 bytes."""

    lease_key: Bytes16
    lease_state: U32
    lease_flags: U32 = 0
    lease_duration: U64 = 0  # reserved
    parent_lease_key: Bytes16 = bytes(16)
    epoch: Annotated[int, "H2x"] = 0


def decode_lease(data: Buffer) -> LeaseV1 | LeaseV2:
    """Read the data of a lease context, whose version is told by its length; raises DecodeError."""
    if len(data) == LeaseV2.SIZE:
        return LeaseV2.decode(data)
    if len(data) == LeaseV1.SIZE:
        return LeaseV1.decode(data)
    raise DecodeError(f"lease context: {len(data)} bytes")


def is_newer(epoch: int, known: int) -> bool:
    """Tell whether `epoch` was counted after `known`: both are 16 bits and wrap around.  [MS-SMB2] 3.2.5.7.5."""
    return 0 < (epoch - known) % EPOCHS < _NEWER
