"""Servers that carry nothing out: what they answer, and what they answer even so.

`denial` is the answer of one that has forgotten a login: every request of a message gets the same error status, in the
clear and without a signature, because who has forgotten a login has no key either.
"""

import struct
from typing import Final

from tests.support.record import SMB1_ID, SMB2_ID

USER_SESSION_DELETED: Final = 0xC0000203
NETWORK_SESSION_EXPIRED: Final = 0xC000035C

_SMB2_HEADER: Final = struct.Struct("<4sHHIHHIIQIIQ16s")  # [MS-SMB2] 2.2.1.2
_SMB2_ERROR: Final = struct.pack("<HBBIB", 9, 0, 0, 0, 0)  # [MS-SMB2] 2.2.2, without data
_SMB2_CANCEL: Final = 12
_SMB2_FLAGS: Final = 0x1 | 0x4  # a response; related to the one before
_SMB1_HEADER: Final = struct.Struct("<4sBIBH20s")  # [MS-CIFS] 2.2.3.1
_SMB1_NT_CANCEL: Final = 0xA4
_SMB1_REPLY: Final = 0x80
_SMB1_SIGNED: Final = 0x0004
_SMB1_NO_BLOCKS: Final = bytes(3)  # WordCount, ByteCount


_SMB2_LOGIN: Final = frozenset({0, 1, 3, 13})  # NEGOTIATE, SESSION_SETUP, TREE_CONNECT, ECHO
_SMB1_LOGIN: Final = frozenset({0x72, 0x73, 0x75, 0x2B})


def keeps_alive(message: bytes) -> bool:
    """Tell whether a message asks for a login or a sign of life, and for nothing of the share."""
    if message.startswith(SMB1_ID):
        return message[4] in _SMB1_LOGIN
    return message.startswith(SMB2_ID) and int.from_bytes(message[12:14], "little") in _SMB2_LOGIN


def denial(message: bytes, status: int) -> bytes:
    """Return the whole packet that answers the requests of `message`, which is in the clear; b"" if none is due."""
    answer = _smb1(message, status) if message.startswith(SMB1_ID) else _smb2(message, status)
    return struct.pack(">I", len(answer)) + answer if answer else b""


def _smb1(message: bytes, status: int) -> bytes:
    protocol, command, _, flags, flags2, rest = _SMB1_HEADER.unpack_from(message)
    if command == _SMB1_NT_CANCEL:
        return b""
    unsigned = flags2 & ~_SMB1_SIGNED
    return _SMB1_HEADER.pack(protocol, command, status, flags | _SMB1_REPLY, unsigned, rest) + _SMB1_NO_BLOCKS


def _smb2(message: bytes, status: int) -> bytes:
    answers: list[bytes] = []
    at = 0
    while True:
        header = _SMB2_HEADER.unpack_from(message, at)
        protocol, size, charge, _, command, credits_, flags, following, identity, process, tree, session, _ = header
        assert protocol == SMB2_ID, "what is sealed cannot be denied"
        if command != _SMB2_CANCEL:
            kept = flags & _SMB2_FLAGS | 1
            of_two = (process, tree, session, bytes(16))
            length = _SMB2_HEADER.size + len(_SMB2_ERROR)
            padding = -length % 8 if following else 0
            fields = (charge, status, command, max(credits_, 1), kept, length + padding if following else 0, identity)
            answers.append(_SMB2_HEADER.pack(protocol, size, *fields, *of_two) + _SMB2_ERROR + bytes(padding))
        if not following:
            return b"".join(answers)
        at += following
