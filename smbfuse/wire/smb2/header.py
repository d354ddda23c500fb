"""The SMB2 packet header, and compounds: several elements in one PDU.  [MS-SMB2] 2.2.1, 3.2.4.1.4.

The header is hot on both ways: `HEADER` is packed and unpacked as a whole; `Header` is the readable statement of the
same 64 bytes, and the test oracle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, NamedTuple, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE

PROTOCOL_ID: Final = b"\xfeSMB"
TRANSFORM_PROTOCOL_ID: Final = b"\xfdSMB"
COMPRESSION_PROTOCOL_ID: Final = b"\xfcSMB"

# ProtocolId, StructureSize, CreditCharge, Status, Command, Credits, Flags, NextCommand, MessageId, ProcessId, TreeId
# (together AsyncId), SessionId, Signature
HEADER: Final = Struct("<4sHHIHHIIQIIQ16s")
SIGNATURE: Final = slice(48, 64)

UNSOLICITED: Final = 0xFFFFFFFFFFFFFFFF  # MessageId of what the server sends without being asked
RELATED_FILE_ID: Final = b"\xff" * 16  # the FileId of the CREATE before, in a related compound
NO_SIGNATURE: Final = bytes(16)


class Command(IntEnum):
    """Command codes.  [MS-SMB2] 2.2.1.2."""

    NEGOTIATE = 0
    SESSION_SETUP = 1
    LOGOFF = 2
    TREE_CONNECT = 3
    TREE_DISCONNECT = 4
    CREATE = 5
    CLOSE = 6
    FLUSH = 7
    READ = 8
    WRITE = 9
    LOCK = 10
    IOCTL = 11
    CANCEL = 12
    ECHO = 13
    QUERY_DIRECTORY = 14
    CHANGE_NOTIFY = 15
    QUERY_INFO = 16
    SET_INFO = 17
    OPLOCK_BREAK = 18


class HeaderFlags(IntFlag):
    """Flags of the header.  [MS-SMB2] 2.2.1.2."""

    SERVER_TO_REDIR = 0x1  # a response
    ASYNC_COMMAND = 0x2
    RELATED_OPERATIONS = 0x4
    SIGNED = 0x8
    PRIORITY_MASK = 0x70
    DFS_OPERATIONS = 0x10000000
    REPLAY_OPERATION = 0x20000000


@dataclass(frozen=True, slots=True)
class Header:
    """SMB2 Packet Header, SYNC and ASYNC.  [MS-SMB2] 2.2.1.1, 2.2.1.2.  64 bytes.

    `process_id` (reserved) and `tree_id` are one AsyncId of 64 bits where ASYNC_COMMAND is set.
    """

    command: int
    message_id: int = 0
    credit_charge: int = 0
    status: int = 0  # in requests of 3.x: ChannelSequence, 16 bits
    credits: int = 0  # asked for in a request, granted in a response
    flags: int = 0
    next_command: int = 0
    process_id: int = 0
    tree_id: int = 0
    session_id: int = 0
    signature: bytes = NO_SIGNATURE

    @property
    def async_id(self) -> int:
        """The AsyncId; meaningful with ASYNC_COMMAND only."""
        return self.process_id | self.tree_id << 32

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        return HEADER.pack(
            PROTOCOL_ID,
            HEADER_SIZE,
            self.credit_charge,
            self.status,
            self.command,
            self.credits,
            self.flags,
            self.next_command,
            self.message_id,
            self.process_id,
            self.tree_id,
            self.session_id,
            self.signature,
        )

    @classmethod
    def decode(cls, element: Buffer) -> Self:
        """Read the first 64 bytes; raises DecodeError."""
        if len(element) < HEADER_SIZE:
            raise DecodeError(f"SMB2 header: {len(element)} of {HEADER_SIZE} bytes")
        (protocol_id, structure_size, credit_charge, status, command, credits_, flags, next_command, *rest) = (
            HEADER.unpack_from(element)
        )
        if protocol_id != PROTOCOL_ID:
            raise DecodeError(f"SMB2 header: ProtocolId {protocol_id.hex()}")
        if structure_size != HEADER_SIZE:
            raise DecodeError(f"SMB2 header: StructureSize {structure_size}")
        message_id, process_id, tree_id, session_id, signature = rest
        return cls(
            command=command,
            message_id=message_id,
            credit_charge=credit_charge,
            status=status,
            credits=credits_,
            flags=flags,
            next_command=next_command,
            process_id=process_id,
            tree_id=tree_id,
            session_id=session_id,
            signature=signature,
        )


class Arrived(NamedTuple):
    """What the receiving side wants of a header, in wire order; made of one unpack."""

    protocol_id: bytes
    structure_size: int
    credit_charge: int
    status: int
    command: int
    credits: int
    flags: int
    next_command: int
    message_id: int
    process_id: int
    tree_id: int
    session_id: int
    signature: bytes


def split_compound(pdu: memoryview) -> Iterator[tuple[Arrived, memoryview]]:
    """Yield each element of a PDU with its header; an element includes the padding before the next one.

    Raises DecodeError for a header cut short, a wrong ProtocolId or StructureSize, or a NextCommand that is not
    8-byte aligned, does not pass its own header, or leaves the PDU.
    """
    at, size = 0, len(pdu)
    while True:
        if size - at < HEADER_SIZE:
            raise DecodeError(f"SMB2 header: {size - at} of {HEADER_SIZE} bytes")
        header = Arrived._make(HEADER.unpack_from(pdu, at))
        if header.protocol_id != PROTOCOL_ID or header.structure_size != HEADER_SIZE:
            raise DecodeError(f"SMB2 header: {header.protocol_id.hex()}, StructureSize {header.structure_size}")
        step = header.next_command
        if not step:
            yield header, pdu[at:] if at else pdu
            return
        if step % ALIGNMENT or step < HEADER_SIZE or at + step > size:
            raise DecodeError(f"SMB2 header: NextCommand {step} in {size - at} bytes")
        yield header, pdu[at : at + step]
        at += step


def join_compound(elements: Sequence[bytes]) -> bytes:
    """Return one PDU of whole elements: NextCommand filled in, all but the last padded to 8 bytes. Not signed.

    For a single element nothing changes.
    """
    pdu = bytearray()
    for number, element in enumerate(elements, 1):
        padded = bytearray(element)
        if number < len(elements):
            padded += bytes(-len(padded) % ALIGNMENT)
            padded[20:24] = len(padded).to_bytes(4, "little")
        pdu += padded
    return bytes(pdu)
