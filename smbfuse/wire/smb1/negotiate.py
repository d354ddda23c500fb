"""NEGOTIATE: dialect strings, and the three shapes of the answer.  [MS-CIFS] 2.2.4.52, [MS-SMB] 2.2.4.5."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import I16, U16, U32, Record, record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, encode_block

NT_LM_012: Final = "NT LM 0.12"
NO_DIALECT: Final = 0xFFFF

_BUFFER_FORMAT_DIALECT: Final = 0x02
_GUID_SIZE: Final = 16


class SecurityMode(enum.IntFlag, boundary=enum.KEEP):
    """SecurityMode of a NEGOTIATE response.  [MS-CIFS] 2.2.4.52.2."""

    USER_LEVEL = 0x01  # else the password belongs to the share
    ENCRYPT_PASSWORDS = 0x02  # challenge and response, else plaintext
    SIGNATURES_ENABLED = 0x04
    SIGNATURES_REQUIRED = 0x08


class Capabilities(enum.IntFlag, boundary=enum.KEEP):
    """Capabilities of server and client.  [MS-CIFS] 2.2.4.52.2, [MS-SMB] 2.2.4.5.2.1."""

    RAW_MODE = 0x00000001
    MPX_MODE = 0x00000002
    UNICODE = 0x00000004
    LARGE_FILES = 0x00000008
    NT_SMBS = 0x00000010
    RPC_REMOTE_APIS = 0x00000020
    STATUS32 = 0x00000040
    LEVEL_II_OPLOCKS = 0x00000080
    LOCK_AND_READ = 0x00000100
    NT_FIND = 0x00000200
    DFS = 0x00001000
    INFOLEVEL_PASSTHRU = 0x00002000
    LARGE_READX = 0x00004000
    LARGE_WRITEX = 0x00008000
    LWIO = 0x00010000
    UNIX = 0x00800000
    COMPRESSED_DATA = 0x02000000
    DYNAMIC_REAUTH = 0x20000000
    PERSISTENT_HANDLES = 0x40000000
    EXTENDED_SECURITY = 0x80000000


@dataclass(frozen=True, slots=True)
class NegotiateRequest:
    """SMB_COM_NEGOTIATE request: the dialects offered. The strings are OEM always.  [MS-CIFS] 2.2.4.52.1."""

    dialects: tuple[str, ...]

    command: ClassVar[int] = Command.NEGOTIATE

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        data = b"".join(bytes((_BUFFER_FORMAT_DIALECT,)) + strings.encode_oem(name) + b"\0" for name in self.dialects)
        return encode_block(self.command, b"", data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NegotiateRequest:
        """Read a request."""
        block.want_words(0, cls.__name__)
        dialects = []
        data = bytes(block.data)
        while data:
            if data[0] != _BUFFER_FORMAT_DIALECT:
                raise DecodeError(f"dialect with buffer format 0x{data[0]:02X}")
            name, _, data = data[1:].partition(b"\0")
            dialects.append(strings.decode_oem(name))
        return cls(tuple(dialects))


@record()
class CoreNegotiateResponse(PlainMessage):
    """The oldest answer: an index alone (WordCount 1); 0xFFFF if no dialect suits."""

    dialect_index: U16

    command: ClassVar[int] = Command.NEGOTIATE


@record()
class _LanmanWords(Record):
    dialect_index: U16
    security_mode: U16
    max_buffer_size: U16
    max_mpx_count: U16
    max_number_vcs: U16
    raw_mode: U16
    session_key: U32
    server_time: U16
    server_date: U16
    server_time_zone: I16
    challenge_length: U16
    reserved: U16


@dataclass(frozen=True, slots=True)
class LanmanNegotiateResponse:
    """The answer of LANMAN 1.0 to 2.1 servers (WordCount 13). `server_time_zone` in minutes, positive west of UTC."""

    dialect_index: int
    security_mode: int
    max_buffer_size: int
    max_mpx_count: int
    max_number_vcs: int
    raw_mode: int
    session_key: int
    server_time: int
    server_date: int
    server_time_zone: int
    challenge: bytes = b""
    domain_name: str = ""

    command: ClassVar[int] = Command.NEGOTIATE

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = _LanmanWords(
            dialect_index=self.dialect_index,
            security_mode=self.security_mode,
            max_buffer_size=self.max_buffer_size,
            max_mpx_count=self.max_mpx_count,
            max_number_vcs=self.max_number_vcs,
            raw_mode=self.raw_mode,
            session_key=self.session_key,
            server_time=self.server_time,
            server_date=self.server_date,
            server_time_zone=self.server_time_zone,
            challenge_length=len(self.challenge),
            reserved=0,
        ).encode()
        return encode_block(self.command, words, self.challenge + strings.encode_oem(self.domain_name) + b"\0")

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> LanmanNegotiateResponse:
        """Read a response of 13 words; the domain name may be absent."""
        words = _LanmanWords.decode(block.want_words(_LanmanWords.SIZE, cls.__name__))
        tail = block.tail(strings)
        return cls(
            words.dialect_index,
            words.security_mode,
            words.max_buffer_size,
            words.max_mpx_count,
            words.max_number_vcs,
            words.raw_mode,
            words.session_key,
            words.server_time,
            words.server_date,
            words.server_time_zone,
            tail.take(words.challenge_length, "challenge"),
            tail.oem_string(),
        )


# SystemTime is a FILETIME that starts at an odd offset, ServerTimeZone minutes. 34 bytes for 17 words.
_NT_WORDS: Final = Struct("<HBHHIIIIQhB")


@dataclass(frozen=True, slots=True)
class NegotiateResponse:
    """The answer of NT LM 0.12 servers (WordCount 17).  [MS-CIFS] 2.2.4.52.2, [MS-SMB] 2.2.4.5.2.

    With EXTENDED_SECURITY among the capabilities there are a `server_guid` and a `security_blob` (which may be empty),
    else a `challenge` of 8 bytes and two names, which old servers leave away. `server_time_zone` is in minutes,
    positive west of UTC; `system_time` a FILETIME.
    """

    dialect_index: int
    security_mode: int
    max_mpx_count: int
    max_number_vcs: int
    max_buffer_size: int
    max_raw_size: int
    session_key: int
    capabilities: int
    system_time: int
    server_time_zone: int
    challenge: bytes = b""
    domain_name: str = ""
    server_name: str = ""
    server_guid: bytes = b""
    security_blob: bytes = b""

    command: ClassVar[int] = Command.NEGOTIATE

    @property
    def extended_security(self) -> bool:
        """True if the login is made with security blobs."""
        return bool(self.capabilities & Capabilities.EXTENDED_SECURITY)

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block. The names follow the challenge without alignment."""
        words = _NT_WORDS.pack(
            self.dialect_index,
            self.security_mode,
            self.max_mpx_count,
            self.max_number_vcs,
            self.max_buffer_size,
            self.max_raw_size,
            self.session_key,
            self.capabilities,
            self.system_time,
            self.server_time_zone,
            len(self.challenge),
        )
        if self.extended_security:
            data = self.server_guid + self.security_blob
        else:
            text = _names_strings(self.capabilities, strings)
            data = self.challenge + text.encode(self.domain_name, 0) + text.encode(self.server_name, 0)
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NegotiateResponse:
        """Read a response of 17 words."""
        *words, challenge_length = _NT_WORDS.unpack(block.want_words(_NT_WORDS.size, cls.__name__))
        capabilities = words[7]
        if capabilities & Capabilities.EXTENDED_SECURITY:
            tail = block.tail(strings)
            guid = tail.take(_GUID_SIZE, "server GUID")
            return cls(*(*words, b"", "", "", guid, bytes(tail.rest())))
        # The names begin right behind the challenge, aligned or not: count from there.
        challenge = bytes(block.data[:challenge_length])
        if len(challenge) != challenge_length:
            raise DecodeError(f"challenge: {len(challenge)} of {challenge_length} bytes")
        names = Block(block.command, block.words, block.data[challenge_length:], 0, block.pdu)
        tail = names.tail(_names_strings(capabilities, strings))
        return cls(*(*words, challenge, tail.string(), tail.string()))


def decode_negotiate_response(
    block: Block, strings: Strings
) -> CoreNegotiateResponse | LanmanNegotiateResponse | NegotiateResponse:
    """Read a NEGOTIATE response of any shape; the number of its words tells which."""
    if len(block.words) == _NT_WORDS.size:
        return NegotiateResponse.decode_block(block, strings)
    if len(block.words) == _LanmanWords.SIZE:
        return LanmanNegotiateResponse.decode_block(block, strings)
    return CoreNegotiateResponse.decode_block(block, strings)


def _names_strings(capabilities: int, strings: Strings) -> Strings:
    """Return how the two names are written: the header's Flags2 cannot be trusted here, the capabilities can."""
    return Strings(bool(capabilities & Capabilities.UNICODE), strings.codepage)
