"""What each recorded request asks for, in the specifications' words: "CREATE+QUERY_INFO+CLOSE", "FIND_FIRST2".

A compound, and a chain of SMB1's AndX commands, is one request and its commands are joined. Read from the bytes by
hand: a record is evidence about the product's own decoders.
"""

import struct
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.support.record import SESSION_MESSAGE, SMB1_ID, SMB2_ID, Pdu

SEALED_ID: Final = b"\xfdSMB"

# [MS-SMB2] 2.2.1
SMB2_COMMANDS: Final = (
    "NEGOTIATE",
    "SESSION_SETUP",
    "LOGOFF",
    "TREE_CONNECT",
    "TREE_DISCONNECT",
    "CREATE",
    "CLOSE",
    "FLUSH",
    "READ",
    "WRITE",
    "LOCK",
    "IOCTL",
    "CANCEL",
    "ECHO",
    "QUERY_DIRECTORY",
    "CHANGE_NOTIFY",
    "QUERY_INFO",
    "SET_INFO",
    "OPLOCK_BREAK",
)

# [MS-CIFS] 2.2.2.1
SMB1_COMMANDS: Final = {
    0x00: "CREATE_DIRECTORY",
    0x01: "DELETE_DIRECTORY",
    0x04: "CLOSE",
    0x05: "FLUSH",
    0x06: "DELETE",
    0x07: "RENAME",
    0x08: "QUERY_INFORMATION",
    0x09: "SET_INFORMATION",
    0x10: "CHECK_DIRECTORY",
    0x23: "QUERY_INFORMATION2",
    0x24: "LOCKING_ANDX",
    0x2B: "ECHO",
    0x2D: "OPEN_ANDX",
    0x2E: "READ_ANDX",
    0x2F: "WRITE_ANDX",
    0x32: "TRANSACTION2",
    0x33: "TRANSACTION2_SECONDARY",
    0x34: "FIND_CLOSE2",
    0x71: "TREE_DISCONNECT",
    0x72: "NEGOTIATE",
    0x73: "SESSION_SETUP_ANDX",
    0x74: "LOGOFF_ANDX",
    0x75: "TREE_CONNECT_ANDX",
    0xA0: "NT_TRANSACT",
    0xA1: "NT_TRANSACT_SECONDARY",
    0xA2: "NT_CREATE_ANDX",
    0xA4: "NT_CANCEL",
    0xA5: "NT_RENAME",
}
CHAINED: Final = frozenset((0x24, 0x2D, 0x2E, 0x2F, 0x73, 0x74, 0x75, 0xA2))
END_OF_CHAIN: Final = 0xFF
TRANSACTION2: Final = 0x32
NT_TRANSACT: Final = 0xA0

# [MS-CIFS] 2.2.2.2
TRANSACTIONS: Final = (
    "OPEN2",
    "FIND_FIRST2",
    "FIND_NEXT2",
    "QUERY_FS_INFORMATION",
    "SET_FS_INFORMATION",
    "QUERY_PATH_INFORMATION",
    "SET_PATH_INFORMATION",
    "QUERY_FILE_INFORMATION",
    "SET_FILE_INFORMATION",
)


def count_requests(pdus: Iterable[Pdu]) -> Counter[str]:
    """Count the requests to the server by what they ask for."""
    return Counter(name_of(pdu) for pdu in pdus if pdu.to_server and pdu.kind == SESSION_MESSAGE)


def name_of(pdu: Pdu) -> str:
    """Say what one session message to the server asks for."""
    if pdu.data.startswith(SMB2_ID):
        return "+".join(_smb2(pdu.data))
    if pdu.data.startswith(SMB1_ID):
        return "+".join(_smb1(pdu.data))
    return "sealed" if pdu.data.startswith(SEALED_ID) else "unknown"


def _smb2(data: bytes) -> list[str]:
    names, at = [], 0
    while data[at : at + 4] == SMB2_ID and len(data) >= at + 24:
        (command,) = struct.unpack_from("<H", data, at + 12)
        names.append(SMB2_COMMANDS[command] if command < len(SMB2_COMMANDS) else f"command {command}")
        (following,) = struct.unpack_from("<I", data, at + 20)
        if not following:
            break
        at += following
    return names


def _smb1(data: bytes) -> list[str]:
    names, at, command = [], 32, data[4]
    while command != END_OF_CHAIN:
        name = SMB1_COMMANDS.get(command, f"command 0x{command:02x}")
        # The words begin behind their count; SetupCount and Setup[0] where the transactions' structures have them.
        if command == TRANSACTION2 and len(data) >= at + 31:
            (function,) = struct.unpack_from("<H", data, at + 29)
            name = TRANSACTIONS[function] if function < len(TRANSACTIONS) else f"{name}/{function}"
        elif command == NT_TRANSACT and len(data) >= at + 39:
            name = f"{name}/{struct.unpack_from('<H', data, at + 37)[0]}"
        names.append(name)
        if command not in CHAINED or len(data) < at + 5:
            break
        command, _, at = struct.unpack_from("<BBH", data, at + 1)
    return names
