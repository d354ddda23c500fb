"""READ_ANDX: the hot message. One Struct each way; the classes below are its readable statement and test oracle.

[MS-CIFS] 2.2.4.42, [MS-SMB] 2.2.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import ClassVar, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U16, U32, Record, record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, Strings, data_offset, encode_block

# WordCount 12: AndX, FID, Offset, MaxCount, MinCount, MaxCountHigh (32 bits), Remaining, OffsetHigh; ByteCount 0.
_REQUEST: Final = Struct("<BBBHHIHHIHIH")
_WORD_COUNT: Final = 12
_NO_ANDX: Final = 0xFF


def encode_read(fid: int, offset: int, length: int) -> bytes:
    """Return the block of a READ_ANDX request for `length` bytes at byte `offset`, last in its chain.

    A length above 65535 needs CAP_LARGE_READX, an offset above 32 bits CAP_LARGE_FILES.
    """
    return _REQUEST.pack(
        _WORD_COUNT,
        _NO_ANDX,
        0,
        0,
        fid,
        offset & 0xFFFFFFFF,
        length & 0xFFFF,
        0,  # MinCountOfBytesToReturn: pipes only
        length >> 16,
        0,
        offset >> 32,
        0,
    )


@record()
class _ShortWords(Record):
    fid: U16
    offset: U32
    max_count: U16
    min_count: U16
    max_count_high: U32
    remaining: U16


@record()
class _LongWords(Record):
    fid: U16
    offset: U32
    max_count: U16
    min_count: U16
    max_count_high: U32
    remaining: U16
    offset_high: U32


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """READ_ANDX request: WordCount 12, or 10 if `offset_high` is None (servers without CAP_LARGE_FILES).

    `max_count_high` is the upper half of the length with CAP_LARGE_READX; it was a time-out in older dialects.
    """

    fid: int
    offset: int
    max_count: int
    min_count: int
    max_count_high: int
    remaining: int
    offset_high: int | None

    command: ClassVar[int] = Command.READ_ANDX

    @classmethod
    def at(cls, fid: int, offset: int, length: int, *, large_files: bool = True) -> ReadRequest:
        """Return the request for `length` bytes at byte `offset`."""
        offset_high = offset >> 32 if large_files else None
        return cls(fid, offset & 0xFFFFFFFF, length & 0xFFFF, 0, length >> 16, 0, offset_high)

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block; it has no strings."""
        short = _ShortWords(
            self.fid, self.offset, self.max_count, self.min_count, self.max_count_high, self.remaining
        ).encode()
        high = b"" if self.offset_high is None else self.offset_high.to_bytes(4, "little")
        return encode_block(self.command, short + high, b"")

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> ReadRequest:
        """Read a request of either length."""
        if len(block.words) == _ShortWords.SIZE:
            short = _ShortWords.decode(block.words)
            return cls(
                short.fid, short.offset, short.max_count, short.min_count, short.max_count_high, short.remaining, None
            )
        words = _LongWords.decode(block.want_words(_LongWords.SIZE, cls.__name__))
        return cls(
            words.fid,
            words.offset,
            words.max_count,
            words.min_count,
            words.max_count_high,
            words.remaining,
            words.offset_high,
        )


# Available, DataCompactionMode, Reserved, DataLength, DataOffset, DataLengthHigh, Reserved: 10 words behind the AndX.
_RESPONSE: Final = Struct("<HHxxHHH8x")


def decode_read(block: Block) -> memoryview:
    """Return the data of a READ_ANDX response as a view into its message.  [MS-SMB] 2.2.4.2.2.

    DataOffset says where it is, within the data block or behind it (a chained read's may lie after another block), and
    ByteCount, which has 16 bits, is not asked. Raises DecodeError if it does not lie within the message.
    """
    try:
        _, _, length, offset, length_high = _RESPONSE.unpack(block.words)
    except struct_error:
        raise DecodeError(f"READ_ANDX response: {len(block.words)} bytes of parameters") from None
    length |= length_high << 16
    if not length:
        return block.pdu[:0]
    if offset < block.data_offset or offset + length > len(block.pdu):
        raise DecodeError(f"READ_ANDX data: [{offset}, {offset + length}) in {len(block.pdu)} bytes")
    return block.pdu[offset : offset + length]


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """READ_ANDX response (WordCount 12).  [MS-CIFS] 2.2.4.42.2, [MS-SMB] 2.2.4.2.2.

    `available` is -1 (0xFFFF) for files; `pad` the bytes between ByteCount and the data.
    """

    available: int
    data_compaction_mode: int
    pad: bytes
    data: bytes

    command: ClassVar[int] = Command.READ_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, with the data right behind its pad."""
        start = data_offset(at, self.command, _RESPONSE.size) + len(self.pad)
        words = _RESPONSE.pack(
            self.available, self.data_compaction_mode, len(self.data) & 0xFFFF, start, len(self.data) >> 16
        )
        return encode_block(self.command, words, self.pad + self.data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> ReadResponse:
        """Read a response."""
        data = decode_read(block)
        available, mode, _, offset, _ = _RESPONSE.unpack(block.words)
        pad = block.pdu[block.data_offset : offset] if data else b""
        return cls(available, mode, bytes(pad), bytes(data))


@dataclass(frozen=True, slots=True)
class Read:
    """A READ_ANDX request in its hot form: one `struct` call, no classes between."""

    fid: int
    offset: int
    length: int

    command: ClassVar[int] = Command.READ_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block; see `encode_read`."""
        return encode_read(self.fid, self.offset, self.length)
