"""Commands about a name: make and remove folders, remove and rename files, attributes in the oldest way.

[MS-CIFS] 2.2.4.1, 2.2.4.2, 2.2.4.7 to 2.2.4.10, 2.2.4.66. None of their responses has content, but one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, ClassVar, Final, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U16, U32, record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, Tail, data_offset, encode_block

BUFFER_FORMAT_ASCII: Final = 0x04  # before a name, Unicode or not
HIDDEN_TOO: Final = 0x06  # SearchAttributes: hidden and system files as well

_U16: Final = Struct("<H")


@dataclass(frozen=True, slots=True)
class _NameRequest:
    """Base of requests that are a name alone."""

    name: str

    command: ClassVar[int]

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        return encode_block(self.command, b"", _names(data_offset(at, self.command, 0), strings, self.name))

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> Self:
        """Read a request."""
        block.want_words(0, cls.__name__)
        return cls(_name(block.tail(strings), cls.__name__))


@dataclass(frozen=True, slots=True)
class CreateDirectoryRequest(_NameRequest):
    """CREATE_DIRECTORY request.  [MS-CIFS] 2.2.4.1.1."""

    command: ClassVar[int] = Command.CREATE_DIRECTORY


@dataclass(frozen=True, slots=True)
class DeleteDirectoryRequest(_NameRequest):
    """DELETE_DIRECTORY request.  [MS-CIFS] 2.2.4.2.1."""

    command: ClassVar[int] = Command.DELETE_DIRECTORY


@dataclass(frozen=True, slots=True)
class QueryInformationRequest(_NameRequest):
    """QUERY_INFORMATION request, for servers that know no better.  [MS-CIFS] 2.2.4.9.1."""

    command: ClassVar[int] = Command.QUERY_INFORMATION


@record()
class QueryInformationResponse(PlainMessage):
    """QUERY_INFORMATION response; `last_write_time` counts seconds since 1970 in the server's local time.

    [MS-CIFS] 2.2.4.9.2.
    """

    file_attributes: U16
    last_write_time: U32
    file_size: Annotated[int, "I10x"]

    command: ClassVar[int] = Command.QUERY_INFORMATION


@dataclass(frozen=True, slots=True)
class SetInformationRequest:
    """SET_INFORMATION request; `last_write_time` as it is in QUERY_INFORMATION, 0 leaves it alone.

    [MS-CIFS] 2.2.4.10.1.
    """

    file_attributes: int
    last_write_time: int
    name: str

    command: ClassVar[int] = Command.SET_INFORMATION
    WORDS: ClassVar[Struct] = Struct("<HI10x")

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = self.WORDS.pack(self.file_attributes, self.last_write_time)
        return encode_block(self.command, words, _names(data_offset(at, self.command, len(words)), strings, self.name))

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> SetInformationRequest:
        """Read a request."""
        words = cls.WORDS.unpack(block.want_words(cls.WORDS.size, cls.__name__))
        return cls(*(*words, _name(block.tail(strings), cls.__name__)))


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """DELETE request. A name with wildcards deletes every file that they match!  [MS-CIFS] 2.2.4.7.1."""

    search_attributes: int
    name: str

    command: ClassVar[int] = Command.DELETE

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        names = _names(data_offset(at, self.command, _U16.size), strings, self.name)
        return encode_block(self.command, _U16.pack(self.search_attributes), names)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> DeleteRequest:
        """Read a request."""
        (search_attributes,) = _U16.unpack(block.want_words(_U16.size, cls.__name__))
        return cls(search_attributes, _name(block.tail(strings), cls.__name__))


@dataclass(frozen=True, slots=True)
class RenameRequest:
    """RENAME request; the old name may have wildcards. It never replaces a file that exists.  [MS-CIFS] 2.2.4.8.1."""

    search_attributes: int
    old_name: str
    new_name: str

    command: ClassVar[int] = Command.RENAME

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        names = _names(data_offset(at, self.command, _U16.size), strings, self.old_name, self.new_name)
        return encode_block(self.command, _U16.pack(self.search_attributes), names)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> RenameRequest:
        """Read a request."""
        (search_attributes,) = _U16.unpack(block.want_words(_U16.size, cls.__name__))
        tail = block.tail(strings)
        return cls(search_attributes, _name(tail, cls.__name__), _name(tail, cls.__name__))


class NtRenameLevel(enum.IntEnum):
    """InformationLevel of NT_RENAME.  [MS-CIFS] 2.2.4.66.1."""

    SET_LINK_INFO = 0x0103
    RENAME_FILE = 0x0104


@dataclass(frozen=True, slots=True)
class NtRenameRequest:
    """NT_RENAME request: a rename, or a further name for a file.  [MS-CIFS] 2.2.4.66.1."""

    search_attributes: int
    information_level: int
    old_name: str
    new_name: str

    command: ClassVar[int] = Command.NT_RENAME
    WORDS: ClassVar[Struct] = Struct("<HH4x")

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = self.WORDS.pack(self.search_attributes, self.information_level)
        names = _names(data_offset(at, self.command, len(words)), strings, self.old_name, self.new_name)
        return encode_block(self.command, words, names)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NtRenameRequest:
        """Read a request."""
        words = cls.WORDS.unpack(block.want_words(cls.WORDS.size, cls.__name__))
        tail = block.tail(strings)
        return cls(*(*words, _name(tail, cls.__name__), _name(tail, cls.__name__)))


def _names(at: int, strings: Strings, *names: str) -> bytes:
    """Return a data block that begins at `at`: names, each behind its BufferFormat."""
    data = b""
    for name in names:
        data += bytes((BUFFER_FORMAT_ASCII,))
        data += strings.encode(name, at + len(data))
    return data


def _name(tail: Tail, what: str) -> str:
    """Read the next name; raises DecodeError for a BufferFormat that announces something else."""
    kind = tail.take(1, "BufferFormat")[0]
    if kind != BUFFER_FORMAT_ASCII:
        raise DecodeError(f"{what}: buffer format 0x{kind:02X}")
    return tail.string()
