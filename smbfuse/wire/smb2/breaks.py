"""Oplock and lease breaks, which the server sends unasked.  [MS-SMB2] 2.2.23.

This client asks for neither yet; it reads them so that a server which breaks all the same is understood in the log.
"""

from typing import Annotated

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U16, U32, Buffer, Bytes16
from smbfuse.wire.smb2.message import HEADER_SIZE, Message, message


@message(structure_size=24)
class OplockBreak(Message):
    """SMB2 OPLOCK_BREAK Notification.  [MS-SMB2] 2.2.23.1."""

    oplock_level: Annotated[int, "B5x"]
    file_id: Bytes16


@message(structure_size=44)
class LeaseBreak(Message):
    """SMB2 Lease Break Notification.  [MS-SMB2] 2.2.23.2."""

    new_epoch: U16
    flags: U32  # 1: to be acknowledged
    lease_key: Bytes16
    current_lease_state: U32
    new_lease_state: U32
    break_reason: U32
    access_mask_hint: U32
    share_mask_hint: U32


def decode_break(element: Buffer) -> OplockBreak | LeaseBreak:
    """Read either notification from a whole element, told apart by StructureSize; raises DecodeError."""
    if len(element) < HEADER_SIZE + 2:
        raise DecodeError(f"OPLOCK_BREAK: {len(element)} bytes")
    structure_size = int.from_bytes(element[HEADER_SIZE : HEADER_SIZE + 2], "little")
    return LeaseBreak.decode(element) if structure_size == 44 else OplockBreak.decode(element)
