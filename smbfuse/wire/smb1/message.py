"""Parameter blocks, data blocks, AndX chains and strings: what all SMB1 messages are made of.

A message behind its header is one or more blocks: WordCount, words, ByteCount, bytes ([MS-CIFS] 2.2.3). In a chain the
words of all but the last begin with the command and the place of the next ([MS-CIFS] 2.2.3.4). Offsets count from the
start of the SMB header; so does the alignment of Unicode strings, which is why encoding needs to know its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final, Protocol, Self

from smbfuse.errors import DecodeError
from smbfuse.status import NtStatus, error
from smbfuse.wire.record import Buffer, Record, view
from smbfuse.wire.smb1.header import ANDX_COMMANDS, HEADER_SIZE, NO_ANDX, Header, decode_header, encode_header

ANDX_SIZE: Final = 4
_ANDX: Final = Struct("<BxH")
_LAST_ANDX: Final = _ANDX.pack(NO_ANDX, 0)
_U16: Final = Struct("<H")


@dataclass(frozen=True, slots=True)
class Strings:
    """How a connection writes its strings: UTF-16, or one of the old code pages.

    Unpaired surrogates pass in both directions; bytes that a code page does not know come back as surrogates
    (U+DC80 to U+DCFF) and are sent as the same bytes again.
    """

    unicode: bool
    codepage: str = "cp850"

    def encode(self, text: str, at: int) -> bytes:
        """Return `text` with its terminator, preceded by a pad byte if UTF-16 would begin at an odd offset `at`."""
        if not self.unicode:
            return self.encode_oem(text) + b"\0"
        pad = b"\0" if at % 2 else b""
        return pad + text.encode("utf-16-le", "surrogatepass") + b"\0\0"

    def encode_bare(self, text: str) -> bytes:
        """Return `text` without terminator or pad."""
        return text.encode("utf-16-le", "surrogatepass") if self.unicode else self.encode_oem(text)

    def encode_oem(self, text: str) -> bytes:
        """Return `text` in the code page.  Raises NotFound if it has a character that no such name can have."""
        try:
            return text.encode(self.codepage, "surrogateescape")
        except UnicodeEncodeError:
            raise error(NtStatus.OBJECT_NAME_INVALID, f"spell in {self.codepage}", text) from None

    def decode_bare(self, raw: Buffer) -> str:
        """Return the text of `raw`, all of it; an odd last byte of UTF-16 is left away."""
        if self.unicode:
            return bytes(raw[: len(raw) & ~1]).decode("utf-16-le", "surrogatepass")
        return self.decode_oem(raw)

    def decode_oem(self, raw: Buffer) -> str:
        """Return the text of `raw` in the code page."""
        return bytes(raw).decode(self.codepage, "surrogateescape")


OEM: Final = Strings(unicode=False)
UNICODE: Final = Strings(unicode=True)


class Tail:
    """A cursor over a data block whose parts follow each other."""

    __slots__ = ("_at", "_base", "_data", "_strings")

    def __init__(self, data: memoryview, offset: int, strings: Strings) -> None:
        self._data = data
        self._base = offset  # of `data` from the header
        self._at = 0
        self._strings = strings

    def take(self, length: int, what: str) -> bytes:
        """Return the next `length` bytes; DecodeError if there are fewer."""
        part = view(self._data, self._at, length, what)
        self._at += length
        return bytes(part)

    def rest(self) -> memoryview:
        """Return everything that is left."""
        part = self._data[self._at :]
        self._at = len(self._data)
        return part

    def string(self) -> str:
        """Return the next string, '' if nothing is left. An unterminated one ends with the block: real servers do."""
        if not self._strings.unicode:
            return self.oem_string()
        if (self._base + self._at) % 2:
            self._at += 1
        raw = bytes(self._data[self._at :])
        end = 0
        while (end := raw.find(b"\0\0", end)) % 2 == 1 and end != -1:
            end += 1
        self._at += len(raw) if end < 0 else end + 2
        return self._strings.decode_bare(raw if end < 0 else raw[:end])

    def oem_string(self) -> str:
        """Return the next string in the code page, whatever was negotiated."""
        raw, end, _ = bytes(self._data[self._at :]).partition(b"\0")
        self._at += len(raw) + len(end)
        return self._strings.decode_oem(raw)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a message as it was received. Views, nothing is copied."""

    command: int
    words: memoryview  # without the AndX part
    data: memoryview
    data_offset: int  # of `data` from the header
    pdu: memoryview  # the whole message: offsets inside replies count from its start

    def tail(self, strings: Strings) -> Tail:
        """Return a cursor at the start of the data block."""
        return Tail(self.data, self.data_offset, strings)

    def want_words(self, size: int, what: str) -> memoryview:
        """Return the words if they are exactly `size` bytes, else raise DecodeError."""
        if len(self.words) != size:
            raise DecodeError(f"{what}: {len(self.words)} bytes of parameters instead of {size}")
        return self.words


class Message(Protocol):
    """One command's request: what the engine encodes."""

    @property
    def command(self) -> int: ...

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return WordCount, words, ByteCount and bytes of a block that begins at offset `at` from the header."""
        ...


class PlainMessage(Record):
    """Base of messages that are words alone, with an empty data block."""

    __slots__ = ()

    command: ClassVar[int]

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block; neither its place nor the strings matter to it."""
        return encode_block(self.command, self.encode(), b"")

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> Self:
        """Read the words, which must have the right number."""
        return cls.decode(block.want_words(cls.SIZE, cls.__name__))


def encode_block(command: int, words: Buffer, data: Buffer) -> bytes:
    """Return a block; commands of the AndX kind get an AndX part that ends the chain.

    ByteCount keeps the low 16 bits of a longer data block ([MS-SMB] 2.2.4.2.2).
    """
    andx = _LAST_ANDX if command in ANDX_COMMANDS else b""
    word_count = (len(andx) + len(words)) // 2
    return b"".join((bytes((word_count,)), andx, words, _U16.pack(len(data) & 0xFFFF), data))


def data_offset(at: int, command: int, words_size: int) -> int:
    """Return where the data block begins, from the header, of a block at `at` with `words_size` bytes of own words."""
    return at + 1 + (ANDX_SIZE if command in ANDX_COMMANDS else 0) + words_size + 2


def encode_message(header: Header, chain: Sequence[Message], strings: Strings) -> bytearray:
    """Return a whole message: the header, and the chain with its AndX parts linked."""
    out = bytearray(encode_header(header))
    previous = None
    for part in chain:
        at = len(out)
        if previous is not None:
            _ANDX.pack_into(out, previous + 1, part.command, at)
        out += part.encode_block(at, strings)
        previous = at
    return out


def decode_message(pdu: memoryview) -> tuple[Header, list[Block]]:
    """Read header and chain. AndX offsets must strictly advance; a block without words ends the chain.

    Raises DecodeError.
    """
    header = decode_header(pdu)
    return header, decode_chain(pdu, header.command)


def decode_chain(pdu: memoryview, command: int) -> list[Block]:
    """Read the blocks behind the header, the first of which belongs to `command`.

    A header alone is taken for one empty block: impacket answers errors so.
    """
    if len(pdu) == HEADER_SIZE:
        return [Block(command, pdu[HEADER_SIZE:], pdu[HEADER_SIZE:], HEADER_SIZE, pdu)]
    blocks = []
    at = HEADER_SIZE
    while True:
        word_count = view(pdu, at, 1, "WordCount")[0]
        words = view(pdu, at + 1, 2 * word_count, "words")
        behind = at + 1 + len(words)
        (byte_count,) = _U16.unpack(view(pdu, behind, 2, "ByteCount"))
        data = view(pdu, behind + 2, byte_count, "bytes")
        next_command, next_at = NO_ANDX, 0
        if command in ANDX_COMMANDS and len(words) >= ANDX_SIZE:
            next_command, next_at = _ANDX.unpack_from(words)
            words = words[ANDX_SIZE:]
        blocks.append(Block(command, words, data, behind + 2, pdu))
        if next_command == NO_ANDX:
            return blocks
        if not at < next_at < len(pdu):
            raise DecodeError(f"AndXOffset {next_at} after a block at {at} of {len(pdu)} bytes")
        command, at = next_command, next_at
