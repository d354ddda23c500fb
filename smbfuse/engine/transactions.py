"""Transactions in pieces: requests cut to the server's buffer, responses put together again. Policies, no protocol.

[MS-CIFS] 3.2.4.1.5 (sending), 3.2.5.1.4 (receiving).
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field, replace
from typing import Final

from smbfuse.errors import DecodeError
from smbfuse.wire.smb1.header import HEADER_SIZE, Command
from smbfuse.wire.smb1.transaction import (
    NtTransactRequest,
    NtTransactSecondary,
    TransactionPart,
    TransactionRequest,
    TransactionSecondary,
)

Request = TransactionRequest | NtTransactRequest
Secondary = TransactionSecondary | NtTransactSecondary

# Header, words with four of setup, ByteCount, name and pads; the words of NT_TRANSACT are wider.
_REQUEST_OVERHEAD: Final = HEADER_SIZE + 48
_SECONDARY_OVERHEAD: Final = HEADER_SIZE + 32
_NT_REQUEST_OVERHEAD: Final = HEADER_SIZE + 60
_NT_SECONDARY_OVERHEAD: Final = HEADER_SIZE + 48
_SECONDARY: Final = {
    Command.TRANSACTION: Command.TRANSACTION_SECONDARY,
    Command.TRANSACTION2: Command.TRANSACTION2_SECONDARY,
}
_EMPTY: Final = memoryview(b"")


def cut(request: Request, max_buffer_size: int) -> tuple[Request, list[Secondary]]:
    """Return the first message of `request`, which holds everything, and the later ones that it needs.

    `max_buffer_size` is the server's: the largest message it takes. Parameters go before data.
    """
    is_nt = isinstance(request, NtTransactRequest)
    room = max(max_buffer_size - (_NT_REQUEST_OVERHEAD if is_nt else _REQUEST_OVERHEAD), 1)
    if len(request.parameters) + len(request.data) <= room:
        return request, []
    parameters, data = request.parameters[:room], request.data[: max(room - len(request.parameters), 0)]
    first = replace(request, parameters=parameters, data=data)
    later = []
    at, data_at = len(parameters), len(data)
    room = max(max_buffer_size - (_NT_SECONDARY_OVERHEAD if is_nt else _SECONDARY_OVERHEAD), 1)
    while at < len(request.parameters) or data_at < len(request.data):
        parameters = request.parameters[at : at + room]
        data = request.data[data_at : data_at + room - len(parameters)]
        later.append(_secondary(request, parameters, at, data, data_at))
        at += len(parameters)
        data_at += len(data)
    return first, later


def _secondary(request: Request, parameters: bytes, at: int, data: bytes, data_at: int) -> Secondary:
    totals = len(request.parameters), len(request.data)
    if isinstance(request, NtTransactRequest):
        return NtTransactSecondary(*totals, parameters, at, data, data_at)
    return TransactionSecondary(_SECONDARY[Command(request.command)], *totals, parameters, at, data, data_at)


@dataclass(slots=True)
class _Half:
    """Parameters or data of a response under way."""

    limit: int  # what we allowed the server to send
    total: int | None = None
    filled: int = 0  # so many bytes from the start on are there
    ahead: list[tuple[int, int]] = field(default_factory=list)  # start and end of what is there behind a gap, in order
    buffer: bytearray | None = None

    def expect(self, total: int) -> None:
        """Take over the total that a part announces: within the limit, and never more than before."""
        if total > (self.limit if self.total is None else self.total):
            raise DecodeError(f"a transaction of {total} bytes, where {self.limit} were allowed")
        self.total = total

    def put(self, piece: bytes | memoryview, displacement: int) -> None:
        """Place one part's bytes, which must lie within the total, and where none have come before."""
        if not piece:
            return
        total = self.limit if self.total is None else self.total
        end = displacement + len(piece)
        if end > total:
            raise DecodeError(f"a transaction's part that ends at {end}, where {total} bytes were announced")
        self._note(displacement, end)
        if self.buffer is None:
            self.buffer = bytearray(total)
        self.buffer[displacement:end] = piece

    def _note(self, start: int, end: int) -> None:
        at = bisect(self.ahead, (start, end))
        before = self.ahead[at - 1][1] if at else self.filled
        if start < before or (at < len(self.ahead) and self.ahead[at][0] < end):
            raise DecodeError(f"a transaction's part of the bytes {start} to {end}, of which some came before")
        if start != self.filled:
            self.ahead.insert(at, (start, end))
            return
        self.filled = end
        while self.ahead and self.ahead[0][0] == self.filled:
            self.filled = self.ahead.pop(0)[1]

    @property
    def complete(self) -> bool:
        return self.total is not None and self.filled >= self.total

    def result(self) -> memoryview:
        return memoryview(self.buffer)[: self.total] if self.buffer is not None else _EMPTY


class Assembly:
    """Puts the parts of one response together, by displacement.

    Bounds: no more bytes than the request allowed, and each part brings some that have not come before, so a response
    ends, and has no gaps then. Totals may shrink on the way. A response in one part is handed on as views, without a
    copy.
    """

    __slots__ = ("_data", "_parameters", "_whole")

    def __init__(self, max_parameter_count: int, max_data_count: int) -> None:
        self._parameters = _Half(max_parameter_count)
        self._data = _Half(max_data_count)
        self._whole: TransactionPart | None = None

    def add(self, part: TransactionPart) -> bool:
        """Take the next part; True when the response is complete.

        Raises DecodeError for a part that announces too much, brings what came before, or brings nothing.
        """
        first = self._parameters.total is None
        self._parameters.expect(part.total_parameter_count)
        self._data.expect(part.total_data_count)
        if first and len(part.parameters) == part.total_parameter_count and len(part.data) == part.total_data_count:
            self._whole = part
            return True
        if not len(part.parameters) and not len(part.data) and not self._complete:
            raise DecodeError("a transaction's part without any content")
        self._parameters.put(part.parameters, part.parameter_displacement)
        self._data.put(part.data, part.data_displacement)
        return self._complete

    def result(self) -> tuple[memoryview, memoryview]:
        """Return parameters and data of the complete response."""
        if self._whole is not None:
            return memoryview(self._whole.parameters), memoryview(self._whole.data)
        return self._parameters.result(), self._data.result()

    @property
    def _complete(self) -> bool:
        return self._parameters.complete and self._data.complete
