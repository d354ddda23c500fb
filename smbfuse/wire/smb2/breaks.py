"""Oplock and lease breaks, which the server sends unasked, and their acknowledgements.  [MS-SMB2] 2.2.23 to 2.2.25."""

from enum import IntFlag
from typing import Annotated

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U16, U32, U64, Buffer, Bytes16
from smbfuse.wire.smb2.message import HEADER_SIZE, Message, message


class BreakFlags(IntFlag):
    """Flags of a lease break notification.  [MS-SMB2] 2.2.23.2."""

    ACK_REQUIRED = 1


@message(structure_size=24)
class OplockBreak(Message):
    """SMB2 OPLOCK_BREAK Notification, Acknowledgment and Response.  [MS-SMB2] 2.2.23.1, 2.2.24.1, 2.2.25.1."""

    oplock_level: Annotated[int, "B5x"]
    file_id: Bytes16


@message(structure_size=44)
class LeaseBreak(Message):
    """SMB2 Lease Break Notification.  [MS-SMB2] 2.2.23.2."""

    new_epoch: U16  # reserved where the lease has none
    flags: U32
    lease_key: Bytes16
    current_lease_state: U32
    new_lease_state: U32
    break_reason: U32
    access_mask_hint: U32
    share_mask_hint: U32


@message(structure_size=36)
class LeaseBreakAcknowledgment(Message):
    """SMB2 Lease Break Acknowledgment and Response.  [MS-SMB2] 2.2.24.2, 2.2.25.2."""

    flags: Annotated[int, "2xI"]
    lease_key: Bytes16
    lease_state: U32
    lease_duration: U64 = 0


def decode_break(element: Buffer) -> OplockBreak | LeaseBreak:
    """Read either notification from a whole element, told apart by StructureSize; raises DecodeError."""
    if len(element) < HEADER_SIZE + 2:
        raise DecodeError(f"OPLOCK_BREAK: {len(element)} bytes")
    structure_size = int.from_bytes(element[HEADER_SIZE : HEADER_SIZE + 2], "little")
    return LeaseBreak.decode(element) if structure_size == 44 else OplockBreak.decode(element)
