"""The frames of transactions: one form for TRANSACTION and TRANSACTION2, a wider one for NT_TRANSACT.

A transaction carries setup words, parameters and data, each way in as many messages as it takes. Every part says the
totals, and what it holds at which displacement.  [MS-CIFS] 2.2.4.33, 2.2.4.46, 2.2.4.62.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer, view
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, Strings, encode_block

# TotalParameterCount, TotalDataCount, MaxParameterCount, MaxDataCount, MaxSetupCount, Flags, Timeout,
# ParameterCount, ParameterOffset, DataCount, DataOffset, SetupCount
_REQUEST: Final = Struct("<HHHHBxHI2xHHHHBx")
# Totals; then count, offset and displacement of parameters and of data; TRANSACTION2_SECONDARY has a FID at the end
_SECONDARY: Final = Struct("<HHHHHHHH")
# Totals, reserved; count, offset and displacement of parameters and of data; SetupCount
_RESPONSE: Final = Struct("<HH2xHHHHHHBx")
_NT_REQUEST: Final = Struct("<B2xIIIIIIIIBH")
_NT_SECONDARY: Final = Struct("<3xIIIIIIIIx")
_NT_RESPONSE: Final = Struct("<3xIIIIIIIIB")

_ALIGNMENT: Final = 4
_NO_NAME: Final = b"\0D "  # where TRANSACTION has its name; LAN Manager wrote this there, and so does Samba
NO_FID: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class TransactionRequest:
    """The first message of a TRANSACTION or TRANSACTION2 request.  [MS-CIFS] 2.2.4.33.1, 2.2.4.46.1.

    `parameters` and `data` are what this message holds, from displacement 0; the totals tell whether more follows.
    `name` is for TRANSACTION alone; TRANSACTION2 sends an empty one.
    """

    command: int
    setup: tuple[int, ...]
    parameters: bytes
    data: bytes
    total_parameter_count: int
    total_data_count: int
    max_parameter_count: int
    max_data_count: int
    max_setup_count: int = 0
    flags: int = 0
    timeout: int = 0
    name: str = ""

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, parameters and data each aligned to 4 bytes."""
        words_size = _REQUEST.size + 2 * len(self.setup)
        start = at + 1 + words_size + 2
        name = strings.encode(self.name, start) if self.command == Command.TRANSACTION else b""
        pad = -(start + len(name)) % _ALIGNMENT
        name += _NO_NAME[:pad] if self.command == Command.TRANSACTION2 else bytes(pad)
        parameters_at, data_at, body = _lay_out(start + len(name), self.parameters, self.data)
        words = _REQUEST.pack(
            self.total_parameter_count,
            self.total_data_count,
            self.max_parameter_count,
            self.max_data_count,
            self.max_setup_count,
            self.flags,
            self.timeout,
            len(self.parameters),
            parameters_at,
            len(self.data),
            data_at,
            len(self.setup),
        )
        words += b"".join(word.to_bytes(2, "little") for word in self.setup)
        return encode_block(self.command, words, name + body)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> TransactionRequest:
        """Read a first message. TRANSACTION2 has no name, though some clients write one."""
        (
            total_parameter_count,
            total_data_count,
            max_parameter_count,
            max_data_count,
            max_setup_count,
            flags,
            timeout,
            parameter_count,
            parameter_offset,
            data_count,
            data_at,
            setup_count,
        ) = _REQUEST.unpack(view(block.words, 0, _REQUEST.size, cls.__name__))
        name = block.tail(strings).string() if block.command == Command.TRANSACTION else ""
        return cls(
            block.command,
            _setup(block.words, _REQUEST.size, setup_count),
            _part(block, parameter_offset, parameter_count, "parameters"),
            _part(block, data_at, data_count, "data"),
            total_parameter_count,
            total_data_count,
            max_parameter_count,
            max_data_count,
            max_setup_count,
            flags,
            timeout,
            name,
        )


@dataclass(frozen=True, slots=True)
class TransactionSecondary:
    """A later message of a request that did not fit into one.  [MS-CIFS] 2.2.4.34, 2.2.4.47."""

    command: int  # TRANSACTION_SECONDARY or TRANSACTION2_SECONDARY
    total_parameter_count: int
    total_data_count: int
    parameters: bytes
    parameter_displacement: int
    data: bytes
    data_displacement: int
    fid: int = NO_FID  # TRANSACTION2_SECONDARY alone

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, parameters and data each aligned to 4 bytes."""
        fid = self.fid.to_bytes(2, "little") if self.command == Command.TRANSACTION2_SECONDARY else b""
        return _encode_secondary(self, _SECONDARY, at, fid)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> TransactionSecondary:
        """Read a later message."""
        has_fid = block.command == Command.TRANSACTION2_SECONDARY
        words = block.want_words(_SECONDARY.size + (2 if has_fid else 0), cls.__name__)
        fid = int.from_bytes(words[-2:], "little") if has_fid else NO_FID
        return cls(block.command, *_decode_secondary(block, words, _SECONDARY), fid)


@dataclass(frozen=True, slots=True)
class TransactionPart:
    """One message of a response, of any of the three commands. `parameters` and `data` are views when decoded.

    Totals may shrink from part to part ([MS-CIFS] 2.2.4.33.2). Old servers leave setup and padding away.
    """

    command: int
    total_parameter_count: int
    total_data_count: int
    parameters: bytes | memoryview
    parameter_displacement: int
    data: bytes | memoryview
    data_displacement: int
    setup: tuple[int, ...] = ()

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, parameters and data each aligned to 4 bytes."""
        layout = _NT_RESPONSE if self.command == Command.NT_TRANSACT else _RESPONSE
        start = at + 1 + layout.size + 2 * len(self.setup) + 2
        parameters_at, data_at, body = _lay_out(start, self.parameters, self.data)
        words = layout.pack(
            self.total_parameter_count,
            self.total_data_count,
            len(self.parameters),
            parameters_at,
            self.parameter_displacement,
            len(self.data),
            data_at,
            self.data_displacement,
            len(self.setup),
        )
        words += b"".join(word.to_bytes(2, "little") for word in self.setup)
        return encode_block(self.command, words, body)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> TransactionPart:
        """Read one message of a response; offsets are believed, padding is not counted."""
        layout = _NT_RESPONSE if block.command == Command.NT_TRANSACT else _RESPONSE
        fields = layout.unpack(view(block.words, 0, layout.size, cls.__name__))
        total_parameters, total_data, count, offset, displacement, data_count, data_at, data_displacement = fields[:8]
        if displacement + count > total_parameters or data_displacement + data_count > total_data:
            raise DecodeError("a transaction's part lies outside of its totals")
        return cls(
            block.command,
            total_parameters,
            total_data,
            _view(block, offset, count, "parameters"),
            displacement,
            _view(block, data_at, data_count, "data"),
            data_displacement,
            _setup(block.words, layout.size, fields[8]),
        )


@dataclass(frozen=True, slots=True)
class NtTransactRequest:
    """The first message of an NT_TRANSACT request; the totals tell whether more follows.  [MS-CIFS] 2.2.4.62.1."""

    function: int
    setup: bytes
    parameters: bytes
    data: bytes
    total_parameter_count: int
    total_data_count: int
    max_parameter_count: int
    max_data_count: int
    max_setup_count: int = 0

    command: ClassVar[int] = Command.NT_TRANSACT

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, parameters aligned to 2 bytes and data to 4, as NT clients do."""
        start = at + 1 + _NT_REQUEST.size + len(self.setup) + 2
        parameters_at, data_at, body = _lay_out(start, self.parameters, self.data, alignment=2)
        words = _NT_REQUEST.pack(
            self.max_setup_count,
            self.total_parameter_count,
            self.total_data_count,
            self.max_parameter_count,
            self.max_data_count,
            len(self.parameters),
            parameters_at,
            len(self.data),
            data_at,
            len(self.setup) // 2,
            self.function,
        )
        return encode_block(self.command, words + self.setup, body)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NtTransactRequest:
        """Read a first message."""
        fields = _NT_REQUEST.unpack(view(block.words, 0, _NT_REQUEST.size, cls.__name__))
        max_setup, total_parameters, total_data, max_parameters, max_data = fields[:5]
        count, offset, data_count, data_at, setup_count, function = fields[5:]
        return cls(
            function,
            bytes(view(block.words, _NT_REQUEST.size, 2 * setup_count, "setup")),
            _part(block, offset, count, "parameters"),
            _part(block, data_at, data_count, "data"),
            total_parameters,
            total_data,
            max_parameters,
            max_data,
            max_setup,
        )


@dataclass(frozen=True, slots=True)
class NtTransactSecondary:
    """A later message of an NT_TRANSACT request that did not fit into one.  [MS-CIFS] 2.2.4.63.1."""

    total_parameter_count: int
    total_data_count: int
    parameters: bytes
    parameter_displacement: int
    data: bytes
    data_displacement: int

    command: ClassVar[int] = Command.NT_TRANSACT_SECONDARY

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block, parameters and data each aligned to 4 bytes."""
        return _encode_secondary(self, _NT_SECONDARY, at)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NtTransactSecondary:
        """Read a later message."""
        words = block.want_words(_NT_SECONDARY.size, cls.__name__)
        return cls(*_decode_secondary(block, words, _NT_SECONDARY))


def _encode_secondary(
    message: TransactionSecondary | NtTransactSecondary, layout: Struct, at: int, last_words: bytes = b""
) -> bytes:
    """Return the block of a later message; what it has nothing of has no place either."""
    start = at + 1 + layout.size + len(last_words) + 2
    parameters_at, data_at, body = _lay_out(start, message.parameters, message.data, pad_end=bool(message.data))
    words = layout.pack(
        message.total_parameter_count,
        message.total_data_count,
        len(message.parameters),
        parameters_at if message.parameters else 0,
        message.parameter_displacement,
        len(message.data),
        data_at if message.data else 0,
        message.data_displacement,
    )
    return encode_block(message.command, words + last_words, body)


def _decode_secondary(block: Block, words: memoryview, layout: Struct) -> tuple[int, int, bytes, int, bytes, int]:
    """Read both totals, and the parameters and the data of a later message, each with its displacement."""
    fields = layout.unpack_from(words)
    total_parameters, total_data, count, offset, displacement, data_count, data_at, data_displacement = fields
    parameters, data = _part(block, offset, count, "parameters"), _part(block, data_at, data_count, "data")
    return total_parameters, total_data, parameters, displacement, data, data_displacement


def _lay_out(
    at: int, parameters: Buffer, data: Buffer, *, alignment: int = _ALIGNMENT, pad_end: bool = True
) -> tuple[int, int, bytes]:
    """Return where parameters and data lie that follow from `at` on, and the bytes from there to the end.

    The parameters are aligned to `alignment`, the data to 4 bytes; without `pad_end` it follows as it is.
    """
    body = bytes(-at % alignment)
    parameters_at = at + len(body)
    body += parameters
    if pad_end:
        body += bytes(-(at + len(body)) % _ALIGNMENT)
    return parameters_at, at + len(body), body + data


def _setup(words: memoryview, at: int, count: int) -> tuple[int, ...]:
    raw = view(words, at, 2 * count, "setup words")
    return tuple(int.from_bytes(raw[index : index + 2], "little") for index in range(0, len(raw), 2))


def _view(block: Block, offset: int, count: int, what: str) -> memoryview:
    """Return `count` bytes at `offset` from the header; the offset of nothing is not looked at."""
    return view(block.pdu, offset, count, what) if count else block.pdu[:0]


def _part(block: Block, offset: int, count: int, what: str) -> bytes:
    return bytes(_view(block, offset, count, what))
