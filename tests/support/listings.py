"""Which folders were listed, and how changes were told, as a relay's record has it; taken apart by hand."""

import struct
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.support.record import SMB1_ID, SMB2_ID, Pdu

CREATE, QUERY_DIRECTORY, CHANGE_NOTIFY = 0x05, 0x0E, 0x0F
TRANS2, NT_TRANSACT = 0x32, 0xA0
FIND_FIRST2: Final = 1
NOTIFY_CHANGE: Final = 4
NOTIFY_ENUM_DIR: Final = 0x10C
OF_THE_CREATE: Final = b"\xff" * 16  # the FileId of a request that is related to one before it in its compound


def listings(pdus: Iterable[Pdu]) -> Counter[str]:
    """Count the listings that were begun, by path from the share's root, with slashes. For messages in the clear."""
    begun: Counter[str] = Counter()
    for pdu in pdus:
        if not pdu.to_server:
            continue
        if pdu.data.startswith(SMB1_ID):
            begun.update(_listed_smb1(pdu.data))
        elif pdu.data.startswith(SMB2_ID):
            begun.update(_listed_smb2(pdu.data))
    return begun


def notifications(pdus: Iterable[Pdu]) -> tuple[int, int]:
    """Return how many requests to be told of changes were sent, and how many answers said that it was too much."""
    asked = too_much = 0
    for pdu in pdus:
        if pdu.data.startswith(SMB1_ID) and pdu.data[4] == NT_TRANSACT:
            # [MS-CIFS] 2.2.4.62.1: Function lies behind 36 bytes of words, which begin at 33.
            asked += pdu.to_server and struct.unpack_from("<H", pdu.data, 33 + 36)[0] == NOTIFY_CHANGE
            too_much += not pdu.to_server and struct.unpack_from("<I", pdu.data, 5)[0] == NOTIFY_ENUM_DIR
        elif pdu.data.startswith(SMB2_ID) and struct.unpack_from("<H", pdu.data, 12)[0] == CHANGE_NOTIFY:
            asked += pdu.to_server
            too_much += not pdu.to_server and struct.unpack_from("<I", pdu.data, 8)[0] == NOTIFY_ENUM_DIR
    return asked, too_much


def _listed_smb1(message: bytes) -> set[str]:
    """Return the folder of a FIND_FIRST2 for all that is in it.  [MS-CIFS] 2.2.4.46.1, 2.2.6.2.1."""
    if message[4] != TRANS2 or struct.unpack_from("<H", message, 33 + 28)[0] != FIND_FIRST2:
        return set()
    count, offset = struct.unpack_from("<HH", message, 33 + 18)
    pattern = _path(message[offset + 12 : offset + count].decode("utf-16-le").rstrip("\0"))
    folder, _, name = pattern.rpartition("/")
    return {folder} if name == "*" else set()


def _listed_smb2(message: bytes) -> set[str]:
    """Return the folder that a compound opens and lists.  [MS-SMB2] 2.2.13, 2.2.33."""
    found = set()
    opened = ""
    at = 0
    while True:
        command, following = (
            struct.unpack_from("<H", message, at + 12)[0],
            struct.unpack_from("<I", message, at + 20)[0],
        )
        if command == CREATE:
            start, length = struct.unpack_from("<HH", message, at + 64 + 44)
            opened = message[at + start : at + start + length].decode("utf-16-le")
        elif command == QUERY_DIRECTORY and message[at + 64 + 8 : at + 64 + 24] == OF_THE_CREATE:
            found.add(_path(opened))
        if not following:
            return found
        at += following


def _path(name: str) -> str:
    return name.replace("\\", "/").strip("/")  # with the UNIX extensions SMB1 has slashes
