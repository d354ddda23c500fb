"""WRITE_ANDX, the hot message of writing, and what goes with it: FLUSH, and the WRITE that sets a file's end.

[MS-CIFS] 2.2.4.6, 2.2.4.12, 2.2.4.43; [MS-SMB] 2.2.4.3. The data of a WRITE_ANDX is no part of the message here: it
is sent behind it from where it lies, in as many pieces as it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import ClassVar, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U16, record
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, data_offset, encode_block

# WordCount 14: AndX, FID, Offset, Timeout, WriteMode, Remaining, DataLengthHigh, DataLength, DataOffset, OffsetHigh;
# ByteCount and one pad byte, so that the data of a lone WRITE_ANDX begins at a multiple of 4.
_REQUEST: Final = Struct("<BBBHHIIHHHHHIHx")
_SHORT_REQUEST: Final = Struct("<BBBHHIIHHHHHHx")  # WordCount 12: no OffsetHigh
_NO_ANDX: Final = 0xFF
_PAD: Final = 1
_WORDS: Final = Struct("<HIIHHHHH")  # behind the AndX, without OffsetHigh
_RESPONSE: Final = Struct("<HHHxx")  # Count, Available, CountHigh

WRITE_OVERHEAD: Final = 64  # header, words, ByteCount and pad in front of the data


@dataclass(frozen=True, slots=True)
class Write:
    """A WRITE_ANDX request in its hot form, without its data: `length` bytes are to follow the block.

    A length above 65535 needs CAP_LARGE_WRITEX, an offset above 32 bits CAP_LARGE_FILES; without `large_files` the
    short form is sent, which has room for no more.
    """

    fid: int
    offset: int
    length: int
    large_files: bool = True

    command: ClassVar[int] = Command.WRITE_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block up to its data. ByteCount keeps the low 16 bits of what follows it."""
        layout = _REQUEST if self.large_files else _SHORT_REQUEST
        fields = (
            self.fid,
            self.offset & 0xFFFFFFFF,
            0,  # Timeout
            0,  # WriteMode: written when the server likes, FLUSH says when it must
            0,  # Remaining
            self.length >> 16,
            self.length & 0xFFFF,
            at + layout.size,
        )
        words = (layout.size - 4) // 2  # without WordCount, ByteCount and pad
        high = (self.offset >> 32,) if self.large_files else ()
        return layout.pack(words, _NO_ANDX, 0, 0, *fields, *high, self.length + _PAD & 0xFFFF)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """WRITE_ANDX request: WordCount 14, or 12 if `offset_high` is None (servers without CAP_LARGE_FILES).

    `pad` are the bytes between ByteCount and the data.  [MS-CIFS] 2.2.4.43.1, [MS-SMB] 2.2.4.3.1.
    """

    fid: int
    offset: int
    timeout: int
    write_mode: int
    remaining: int
    offset_high: int | None
    pad: bytes
    data: bytes

    command: ClassVar[int] = Command.WRITE_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, with the data right behind its pad."""
        high = b"" if self.offset_high is None else self.offset_high.to_bytes(4, "little")
        start = data_offset(at, self.command, _WORDS.size + len(high)) + len(self.pad)
        words = _WORDS.pack(
            self.fid,
            self.offset,
            self.timeout,
            self.write_mode,
            self.remaining,
            len(self.data) >> 16,
            len(self.data) & 0xFFFF,
            start,
        )
        return encode_block(self.command, words + high, self.pad + self.data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> WriteRequest:
        """Read a request of either length; DataOffset says where the data is, ByteCount is not asked."""
        offset_high = None
        words = block.words
        if len(words) != _WORDS.size:
            words = block.want_words(_WORDS.size + 4, cls.__name__)[: _WORDS.size]
            offset_high = int.from_bytes(block.words[_WORDS.size :], "little")
        fid, offset, timeout, write_mode, remaining, length_high, length, start = _WORDS.unpack(words)
        length |= length_high << 16
        if not block.data_offset <= start <= start + length <= len(block.pdu):
            raise DecodeError(f"WRITE_ANDX data: [{start}, {start + length}) in {len(block.pdu)} bytes")
        pad, data = block.pdu[block.data_offset : start], block.pdu[start : start + length]
        return cls(fid, offset, timeout, write_mode, remaining, offset_high, bytes(pad), bytes(data))


@dataclass(frozen=True, slots=True)
class WriteResponse:
    """WRITE_ANDX response (WordCount 6).  [MS-CIFS] 2.2.4.43.2, [MS-SMB] 2.2.4.3.2."""

    count: int  # bytes written, both halves
    available: int

    command: ClassVar[int] = Command.WRITE_ANDX

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        return encode_block(self.command, _RESPONSE.pack(self.count & 0xFFFF, self.available, self.count >> 16), b"")

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> WriteResponse:
        """Read a response."""
        try:
            count, available, count_high = _RESPONSE.unpack(block.words)
        except struct_error:
            raise DecodeError(f"WRITE_ANDX response: {len(block.words)} bytes of parameters") from None
        return cls(count | count_high << 16, available)


def decode_written(block: Block, length: int) -> int:
    """Return how many bytes a WRITE_ANDX of `length` bytes has written.

    Servers without CAP_LARGE_WRITEX may leave anything in CountHigh: it is looked at for long writes only. Raises
    DecodeError for more bytes than were sent.
    """
    try:
        count, _, count_high = _RESPONSE.unpack(block.words)
    except struct_error:
        raise DecodeError(f"WRITE_ANDX response: {len(block.words)} bytes of parameters") from None
    if length > 0xFFFF:
        count |= count_high << 16
    if count > length:
        raise DecodeError(f"WRITE_ANDX of {length} bytes wrote {count}")
    return int(count)


@record()
class FlushRequest(PlainMessage):
    """FLUSH request: have what was written through `fid` on the disk.  [MS-CIFS] 2.2.4.6.1."""

    fid: U16

    command: ClassVar[int] = Command.FLUSH


@dataclass(frozen=True, slots=True)
class SetEndRequest:
    """WRITE request without data, the oldest way to set a file's end: it becomes `offset`.  [MS-CIFS] 2.2.4.12.1."""

    fid: int
    offset: int  # 32 bits

    command: ClassVar[int] = Command.WRITE
    WORDS: ClassVar[Struct] = Struct("<HHIH")  # FID, CountOfBytesToWrite, Offset, EstimateOfRemaining
    NO_DATA: ClassVar[bytes] = b"\1\0\0"  # BufferFormat of a data block, and its length

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        return encode_block(self.command, self.WORDS.pack(self.fid, 0, self.offset, 0), self.NO_DATA)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> SetEndRequest:
        """Read a request; raises DecodeError for one with data, which is never sent here."""
        fid, count, offset, _ = cls.WORDS.unpack(block.want_words(cls.WORDS.size, cls.__name__))
        if count:
            raise DecodeError(f"{cls.__name__}: {count} bytes of data")
        return cls(fid, offset)


@record()
class SetInformation2Request(PlainMessage):
    """SET_INFORMATION2 request: times by handle, in the server's local time; 0 leaves one alone.

    [MS-CIFS] 2.2.4.30.1.
    """

    fid: U16
    create_date: U16
    create_time: U16
    last_access_date: U16
    last_access_time: U16
    last_write_date: U16
    last_write_time: U16

    command: ClassVar[int] = Command.SET_INFORMATION2
