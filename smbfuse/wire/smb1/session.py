"""SESSION_SETUP_ANDX in its two forms, TREE_CONNECT_ANDX, and their ends.

[MS-CIFS] 2.2.4.51, 2.2.4.53 to 2.2.4.55; [MS-SMB] 2.2.4.6, 2.2.4.7.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, data_offset, encode_block

_SETUP_WORDS: Final = Struct("<HHHIHH4xI")  # 13 words with AndX
_EXTENDED_WORDS: Final = Struct("<HHHIH4xI")  # 12 words with AndX
_ACTION: Final = Struct("<H")
_ACTION_AND_LENGTH: Final = Struct("<HH")

SERVICE_DISK: Final = "A:"
SERVICE_ANY: Final = "?????"
OTHER_SERVICES: Final = frozenset({"IPC", "LPT1:", "COMM"})  # pipes, printers, serial ports


class SetupAction(enum.IntFlag, boundary=enum.KEEP):
    """Action of a SESSION_SETUP_ANDX response.  [MS-CIFS] 2.2.4.53.2."""

    GUEST = 0x0001
    USE_LANMAN_KEY = 0x0002


@dataclass(frozen=True, slots=True)
class SessionSetupRequest:
    """SESSION_SETUP_ANDX without extended security (WordCount 13).  [MS-CIFS] 2.2.4.53.1.

    The passwords are responses to the challenge, or plaintext: then in `unicode_password` without terminator if the
    connection has Unicode, else in `oem_password` with it.
    """

    max_buffer_size: int
    max_mpx_count: int
    vc_number: int
    session_key: int
    capabilities: int
    oem_password: bytes
    unicode_password: bytes
    account_name: str
    primary_domain: str
    native_os: str
    native_lan_man: str

    command: ClassVar[int] = Command.SESSION_SETUP_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = _SETUP_WORDS.pack(
            self.max_buffer_size,
            self.max_mpx_count,
            self.vc_number,
            self.session_key,
            len(self.oem_password),
            len(self.unicode_password),
            self.capabilities,
        )
        start = data_offset(at, self.command, len(words))
        data = self.oem_password + self.unicode_password
        for text in (self.account_name, self.primary_domain, self.native_os, self.native_lan_man):
            data += strings.encode(text, start + len(data))
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> SessionSetupRequest:
        """Read a request."""
        words = _SETUP_WORDS.unpack(block.want_words(_SETUP_WORDS.size, cls.__name__))
        max_buffer_size, max_mpx_count, vc_number, session_key, oem_length, unicode_length, capabilities = words
        tail = block.tail(strings)
        return cls(
            max_buffer_size,
            max_mpx_count,
            vc_number,
            session_key,
            capabilities,
            tail.take(oem_length, "OEM password"),
            tail.take(unicode_length, "Unicode password"),
            tail.string(),
            tail.string(),
            tail.string(),
            tail.string(),
        )


@dataclass(frozen=True, slots=True)
class SessionSetupExtendedRequest:
    """SESSION_SETUP_ANDX with a security blob (WordCount 12).  [MS-SMB] 2.2.4.6.1."""

    max_buffer_size: int
    max_mpx_count: int
    vc_number: int
    session_key: int
    capabilities: int
    security_blob: bytes
    native_os: str
    native_lan_man: str

    command: ClassVar[int] = Command.SESSION_SETUP_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = _EXTENDED_WORDS.pack(
            self.max_buffer_size,
            self.max_mpx_count,
            self.vc_number,
            self.session_key,
            len(self.security_blob),
            self.capabilities,
        )
        start = data_offset(at, self.command, len(words))
        data = self.security_blob
        for text in (self.native_os, self.native_lan_man):
            data += strings.encode(text, start + len(data))
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> SessionSetupExtendedRequest:
        """Read a request."""
        words = _EXTENDED_WORDS.unpack(block.want_words(_EXTENDED_WORDS.size, cls.__name__))
        max_buffer_size, max_mpx_count, vc_number, session_key, blob_length, capabilities = words
        tail = block.tail(strings)
        blob = tail.take(blob_length, "security blob")
        return cls(
            max_buffer_size, max_mpx_count, vc_number, session_key, capabilities, blob, tail.string(), tail.string()
        )


def decode_setup_request(block: Block, strings: Strings) -> SessionSetupRequest | SessionSetupExtendedRequest:
    """Read a SESSION_SETUP_ANDX request of either form; the number of its words tells which."""
    if len(block.words) == _EXTENDED_WORDS.size:
        return SessionSetupExtendedRequest.decode_block(block, strings)
    return SessionSetupRequest.decode_block(block, strings)


@dataclass(frozen=True, slots=True)
class SessionSetupResponse:
    """SESSION_SETUP_ANDX response, with a security blob (WordCount 4) or without (`None`, WordCount 3).

    The strings are for people; old servers leave them away.  [MS-CIFS] 2.2.4.53.2, [MS-SMB] 2.2.4.6.2.
    """

    action: int
    security_blob: bytes | None = None
    native_os: str = ""
    native_lan_man: str = ""
    primary_domain: str = ""

    command: ClassVar[int] = Command.SESSION_SETUP_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        if self.security_blob is None:
            words, data = _ACTION.pack(self.action), b""
        else:
            words, data = _ACTION_AND_LENGTH.pack(self.action, len(self.security_blob)), self.security_blob
        start = data_offset(at, self.command, len(words))
        for text in (self.native_os, self.native_lan_man, self.primary_domain):
            data += strings.encode(text, start + len(data))
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> SessionSetupResponse:
        """Read a response of either form."""
        tail = block.tail(strings)
        blob = None
        if len(block.words) == _ACTION_AND_LENGTH.size:
            action, length = _ACTION_AND_LENGTH.unpack(block.words)
            blob = tail.take(length, "security blob")
        else:
            (action,) = _ACTION.unpack(block.want_words(_ACTION.size, cls.__name__))
        return cls(action, blob, tail.string(), tail.string(), tail.string())


@record()
class LogoffMessage(PlainMessage):
    """LOGOFF_ANDX, request and response.  [MS-CIFS] 2.2.4.54."""

    command: ClassVar[int] = Command.LOGOFF_ANDX


class TreeConnectFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of a TREE_CONNECT_ANDX request.  [MS-CIFS] 2.2.4.55.1, [MS-SMB] 2.2.4.7.1."""

    DISCONNECT_TID = 0x0001
    EXTENDED_SIGNATURES = 0x0004
    EXTENDED_RESPONSE = 0x0008


class OptionalSupport(enum.IntFlag, boundary=enum.KEEP):
    """OptionalSupport of a TREE_CONNECT_ANDX response.  [MS-CIFS] 2.2.4.55.2, [MS-SMB] 2.2.4.7.2."""

    SEARCH_BITS = 0x0001
    SHARE_IS_IN_DFS = 0x0002


@dataclass(frozen=True, slots=True)
class TreeConnectRequest:
    """TREE_CONNECT_ANDX request. `password` is one NUL byte unless the share itself has one; `service` is OEM always.

    [MS-CIFS] 2.2.4.55.1.
    """

    flags: int
    password: bytes
    path: str
    service: str

    command: ClassVar[int] = Command.TREE_CONNECT_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = _ACTION_AND_LENGTH.pack(self.flags, len(self.password))
        start = data_offset(at, self.command, len(words))
        data = self.password + strings.encode(self.path, start + len(self.password))
        return encode_block(self.command, words, data + strings.encode_oem(self.service) + b"\0")

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> TreeConnectRequest:
        """Read a request."""
        flags, password_length = _ACTION_AND_LENGTH.unpack(block.want_words(_ACTION_AND_LENGTH.size, cls.__name__))
        tail = block.tail(strings)
        return cls(flags, tail.take(password_length, "password"), tail.string(), tail.oem_string())


@dataclass(frozen=True, slots=True)
class TreeConnectResponse:
    """TREE_CONNECT_ANDX response: WordCount 2 from LANMAN servers, 3, or 7 with the rights that were granted.

    `optional_support` and `access_rights` are None where the server is too old, or was not asked, for them.
    [MS-CIFS] 2.2.4.55.2, [MS-SMB] 2.2.4.7.2.
    """

    optional_support: int | None
    access_rights: tuple[int, int] | None  # MaximalShareAccessRights and GuestMaximalShareAccessRights
    service: str = ""
    native_file_system: str = ""

    command: ClassVar[int] = Command.TREE_CONNECT_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = b"" if self.optional_support is None else self.optional_support.to_bytes(2, "little")
        if self.access_rights is not None:
            words += b"".join(rights.to_bytes(4, "little") for rights in self.access_rights)
        service = strings.encode_oem(self.service) + b"\0"
        start = data_offset(at, self.command, len(words))
        data = service + strings.encode(self.native_file_system, start + len(service))
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> TreeConnectResponse:
        """Read a response; both strings may be absent."""
        words = block.words
        if len(words) not in (0, 2, 10):
            raise DecodeError(f"{cls.__name__}: {len(words)} bytes of parameters")
        rights = None
        if len(words) == 10:
            rights = (int.from_bytes(words[2:6], "little"), int.from_bytes(words[6:10], "little"))
        tail = block.tail(strings)
        service = tail.oem_string()
        return cls(int.from_bytes(words[:2], "little") if words else None, rights, service, tail.string())


def share_path(host: str, share: str) -> str:
    """Return the UNC path that TREE_CONNECT asks for."""
    return f"\\\\{host}\\{share}"


@record()
class TreeDisconnectMessage(PlainMessage):
    """TREE_DISCONNECT, request and response.  [MS-CIFS] 2.2.4.51."""

    command: ClassVar[int] = Command.TREE_DISCONNECT


NO_PASSWORD: Final = b"\0"
