"""Bytes of one file that are not on its server yet: what was written last at every place, in order. Pure.

The bytes objects that are handed over are kept as they are: a large write is never copied here, and an overwritten part
of it is cut off by a view. Small writes that follow each other are joined, because a program that writes a line at a
time would cost more in bookkeeping than in bytes.

Every piece carries the mark of the write it came with, a number that only grows: so that who waits for the bytes
written until now need not wait for those that are written meanwhile.
"""

import bisect
from collections.abc import Iterator
from typing import Final, NamedTuple

from smbfuse.share import Buffer

OVERHEAD: Final = 200  # bytes that a piece costs besides its data (measured: object, two views, three list entries)
SMALL: Final = 4 << 10  # bytes; a write below this is joined with the one before it …
JOINED: Final = 64 << 10  # … up to so many


class Piece(NamedTuple):
    """Bytes for the file from `start` on, and the mark of the oldest write among them."""

    start: int
    data: Buffer
    mark: int

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Chunk(NamedTuple):
    """A range of a file without a gap, as one request may carry it; `mark` is the oldest write in it."""

    start: int
    end: int
    mark: int


class Extents:
    """Sorted pieces that never overlap. All operations are by byte offsets, ranges without their end."""

    __slots__ = ("_data", "_marks", "_starts", "length")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._data: list[Buffer] = []
        self._marks: list[int] = []
        self.length = 0  # bytes in all pieces

    def __repr__(self) -> str:
        return f"<Extents {self.length} bytes in {len(self._starts)} pieces, up to {self.end}>"

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def end(self) -> int:
        """Return the offset behind the last byte; 0 if there is none."""
        return self._starts[-1] + len(self._data[-1]) if self._starts else 0

    @property
    def charge(self) -> int:
        """Return what all this costs in memory, in bytes."""
        return self.length + OVERHEAD * len(self._starts)

    def pieces(self) -> Iterator[Piece]:
        """Yield every piece, in order."""
        return map(Piece, self._starts, self._data, self._marks)

    def oldest(self) -> int | None:
        """Return the lowest mark; None if there is no piece."""
        return min(self._marks, default=None)

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether any byte of a range is here."""
        index = self._first_behind(start)
        return index < len(self._starts) and self._starts[index] < end

    def put(self, offset: int, data: Buffer, mark: int) -> None:
        """Put bytes in, over what is there. Cost: two bisections; for the usual append, none."""
        if not len(data):
            return
        if offset < self.end:
            self.cut(offset, offset + len(data))
            index = bisect.bisect_left(self._starts, offset)
        else:
            index = len(self._starts)
        self.length += len(data)
        if index and len(data) < SMALL and self._join(index - 1, offset, data):
            return
        self._starts.insert(index, offset)
        self._data.insert(index, data)
        self._marks.insert(index, mark)

    def put_under(self, piece: Piece) -> None:
        """Put a piece in where nothing is: what is here was written later."""
        at = piece.start
        for later in self.overlay(piece.start, piece.end):
            self.put(at, _part(piece.data, at - piece.start, later.start - piece.start), piece.mark)
            at = later.end
        self.put(at, _part(piece.data, at - piece.start, len(piece.data)), piece.mark)

    def cut(self, start: int, end: int | None = None) -> list[Piece]:
        """Take a range out, by default all from `start` on; return what was in it."""
        index = self._first_behind(start)
        taken: list[Piece] = []
        while index < len(self._starts) and (end is None or start < end):
            at, data, mark = self._starts[index], self._data[index], self._marks[index]
            stop = at + len(data)
            if end is not None and at >= end:
                break
            first = max(at, start)
            last = stop if end is None else min(stop, end)
            taken.append(Piece(first, _part(data, first - at, last - at), mark))
            self.length -= last - first
            rest = [
                Piece(low, _part(data, low - at, high - at), mark)
                for low, high in ((at, first), (last, stop))
                if low < high
            ]
            self._starts[index : index + 1] = [piece.start for piece in rest]
            self._data[index : index + 1] = [piece.data for piece in rest]
            self._marks[index : index + 1] = [mark] * len(rest)
            index += bool(at < first)
            if last < stop:
                break
        return taken

    def overlay(self, start: int, end: int) -> list[Piece]:
        """Return what is here of a range. The data stays true whatever is put in afterwards."""
        index = self._first_behind(start)
        found: list[Piece] = []
        while index < len(self._starts) and max(start, at := self._starts[index]) < end:
            data = self._data[index]
            first, last = max(at, start), min(at + len(data), end)
            found.append(Piece(first, _part(data, first - at, last - at), self._marks[index]))
            index += 1
        return found

    def chunks(self, request: int) -> Iterator[Chunk]:
        """Yield all ranges without a gap, in order, cut at multiples of `request` bytes."""
        start = at = mark = -1
        for begin, data, own in zip(self._starts, self._data, self._marks, strict=True):
            if begin != at:
                if start < at:
                    yield Chunk(start, at, mark)
                start = at = begin
                mark = own
            elif start == at:
                mark = own
            mark = min(mark, own)
            at = begin + len(data)
            while (border := start - start % request + request) <= at:
                yield Chunk(start, border, mark)
                start = border
                mark = own
        if start < at:
            yield Chunk(start, at, mark)

    def _first_behind(self, offset: int) -> int:
        """Return the index of the first piece that ends behind `offset`."""
        index = bisect.bisect_right(self._starts, offset)
        if index and self._starts[index - 1] + len(self._data[index - 1]) > offset:
            index -= 1
        return index

    def _join(self, index: int, offset: int, data: Buffer) -> bool:
        """Append a small write to the piece before it; False if that is large, or ends elsewhere."""
        before = self._data[index]
        length = len(before)
        if self._starts[index] + length != offset or length + len(data) > JOINED:
            return False
        if not isinstance(before, bytearray):
            if length > SMALL:
                return False
            before = self._data[index] = bytearray(before)
        before += data
        return True


def _part(data: Buffer, first: int, last: int) -> Buffer:
    """Return a part of a piece that nothing changes any longer, and that keeps no more than twice its size alive."""
    if last - first == len(data) and not isinstance(data, bytearray):
        return data
    view = memoryview(data)[first:last]
    # What was joined may still grow, which it must not while somebody holds a view of it.
    if isinstance(data, bytearray) or 2 * view.nbytes < memoryview(view.obj).nbytes:
        return bytes(view)
    return view
