"""The SMB1 header: 32 bytes in front of every message.  [MS-CIFS] 2.2.3.1, [MS-SMB] 2.2.3.1."""

import enum
from struct import Struct
from typing import Annotated, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U8, U16, U32, Buffer, Bytes8, Record, record

PROTOCOL: Final = b"\xffSMB"
HEADER_SIZE: Final = 32
SIGNATURE_OFFSET: Final = 14

UNSOLICITED_MID: Final = 0xFFFF  # oplock breaks; never the MID of a request of ours
NO_UID: Final = 0
NO_TID: Final = 0xFFFF


class Command(enum.IntEnum):
    """Commands that this client sends or understands.  [MS-CIFS] 2.2.2.1."""

    CREATE_DIRECTORY = 0x00
    DELETE_DIRECTORY = 0x01
    CLOSE = 0x04
    FLUSH = 0x05
    DELETE = 0x06
    RENAME = 0x07
    QUERY_INFORMATION = 0x08
    SET_INFORMATION = 0x09
    WRITE = 0x0B
    SET_INFORMATION2 = 0x22
    LOCKING_ANDX = 0x24
    TRANSACTION = 0x25
    TRANSACTION_SECONDARY = 0x26
    ECHO = 0x2B
    OPEN_ANDX = 0x2D
    READ_ANDX = 0x2E
    WRITE_ANDX = 0x2F
    TRANSACTION2 = 0x32
    TRANSACTION2_SECONDARY = 0x33
    FIND_CLOSE2 = 0x34
    TREE_DISCONNECT = 0x71
    NEGOTIATE = 0x72
    SESSION_SETUP_ANDX = 0x73
    LOGOFF_ANDX = 0x74
    TREE_CONNECT_ANDX = 0x75
    QUERY_INFORMATION_DISK = 0x80
    NT_TRANSACT = 0xA0
    NT_TRANSACT_SECONDARY = 0xA1
    NT_CREATE_ANDX = 0xA2
    NT_CANCEL = 0xA4
    NT_RENAME = 0xA5


# Every command of the dialect that begins with an AndX block.
ANDX_COMMANDS: Final = frozenset(
    (
        Command.LOCKING_ANDX,
        Command.OPEN_ANDX,
        Command.READ_ANDX,
        Command.WRITE_ANDX,
        Command.SESSION_SETUP_ANDX,
        Command.LOGOFF_ANDX,
        Command.TREE_CONNECT_ANDX,
        Command.NT_CREATE_ANDX,
    )
)
NO_ANDX: Final = 0xFF


class Flags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of the header.  [MS-CIFS] 2.2.3.1."""

    CASE_INSENSITIVE = 0x08
    CANONICALIZED_PATHS = 0x10
    REPLY = 0x80


class Flags2(enum.IntFlag, boundary=enum.KEEP):
    """Flags2 of the header.  [MS-CIFS] 2.2.3.1, [MS-SMB] 2.2.3.1."""

    LONG_NAMES = 0x0001
    EAS = 0x0002
    SECURITY_SIGNATURE = 0x0004  # this client can sign, or this message is signed
    SECURITY_SIGNATURE_REQUIRED = 0x0010
    IS_LONG_NAME = 0x0040
    EXTENDED_SECURITY = 0x0800
    DFS = 0x1000
    NT_STATUS = 0x4000  # Status is an NTSTATUS, else a DOS class and code
    UNICODE = 0x8000


@record()
class Header(Record):
    """SMB_Header behind its Protocol field: what `encode_header` and `decode_header` carry.

    `status` is the 32-bit field as it lies there: an NTSTATUS if `flags2` has NT_STATUS, else class, zero and code.
    """

    command: U8
    status: U32
    flags: U8
    flags2: U16
    pid_high: U16
    security_features: Bytes8  # the signature, where there is one
    tid: Annotated[int, "2xH"]
    pid_low: U16
    uid: U16
    mid: U16

    @property
    def pid(self) -> int:
        """Process id, 32 bits, of whoever sent the request."""
        return self.pid_high << 16 | self.pid_low

    @property
    def is_reply(self) -> bool:
        """True for a message from the server that answers a request."""
        return bool(self.flags & Flags.REPLY)


# Where the engine writes into an encoded header: SecurityFeatures to MID, and the fields that tell replies apart.
ROUTE: Final = Struct("<4sBIBHH8x2xHHHH")  # protocol, command, status, flags, flags2, pid_high, tid, pid_low, uid, mid


def encode_header(header: Header) -> bytes:
    """Return the 32 bytes in front of a message."""
    return PROTOCOL + header.encode()


def decode_header(pdu: Buffer) -> Header:
    """Read the header of a message; DecodeError if it is not SMB1."""
    if len(pdu) < HEADER_SIZE:
        raise DecodeError(f"SMB1 header: {len(pdu)} of {HEADER_SIZE} bytes")
    if bytes(pdu[:4]) != PROTOCOL:
        raise DecodeError(f"SMB1 header begins with {bytes(pdu[:4]).hex()}")
    return Header.decode(pdu, 4)
