"""Which bytes of a file to ask for before anybody wants them. Pure: it is told of reads and answers with ranges.

A reader that goes on where it stopped gets a window ahead of it that doubles up to a limit; one that jumps about gets
nothing. Readers that share an open file (threads, a player that reads sound and picture) are told apart: up to
`STREAMS` places are followed at once. Reading backwards is followed too, and so are steps of one size.

The kernel sends what it reads ahead as several requests at once, and they may arrive out of order: a read that lies a
little before or behind the expected place still belongs to its stream.
"""

from collections.abc import Sequence
from typing import Final

STREAMS: Final = 4
FIRST_WINDOW: Final = 512 * 1024  # bytes ahead when a second read shows that the first was no accident
SLACK: Final = 512 * 1024  # bytes that requests of one reader may overtake each other by
STRIDES: Final = 8  # steps read ahead at most

Range = tuple[int, int]  # start and end, in bytes


class Stream:
    """One place of a file that somebody reads on from."""

    __slots__ = ("asked", "first", "next", "window")

    def __init__(self, offset: int, end: int) -> None:
        self.first = offset  # lowest byte read: where a backward reader goes on
        self.next = end
        self.asked = end  # bytes before this are read, here or on their way
        self.window = 0


class Readahead:
    """The read-ahead of one open file.

    `request` is the size of one request to the server: ranges end at multiples of it once the window is larger. It may
    be set anew at any time.
    `maximum` is the most to have read ahead: 0 switches it off.
    """

    __slots__ = ("_hot", "_last", "_maximum", "_streams", "_stride", "_strides", "request")

    def __init__(self, request: int, maximum: int) -> None:
        self.request = request
        self._maximum = maximum
        self._streams: list[Stream] = []
        self._hot: Stream | None = None  # the one that was read last
        self._last = 0  # where the last read outside every stream began
        self._stride = 0
        self._strides = 0  # how often it was kept

    def follows(self, offset: int, end: int) -> bool:
        """Note a read that was answered from memory; False: `advise` must be asked, there may be something to fetch.

        The hot path: a few comparisons for a sequential reader whose window is filled.
        """
        stream = self._hot
        if stream is None or offset != stream.next or stream.asked - end < stream.window - self._step(stream):
            return False
        stream.next = end
        return True

    def advise(self, offset: int, end: int, size: int, room: int) -> Sequence[Range]:
        """Note the read of [offset, end) in a file of `size` bytes; return what to fetch besides, most wanted first.

        `room` is how many bytes may be asked for now. What it cuts off is advised again with the next read.
        """
        if not self._maximum:
            return ()
        stream = self._stream_of(offset)
        if stream is None:
            return self._begin(offset, end, size, room)
        self._hot = stream
        if offset < stream.first:
            return self._backward(stream, offset, room)
        return self._forward(stream, end, size, room)

    def _begin(self, offset: int, end: int, size: int, room: int) -> Sequence[Range]:
        stream = self._hot = Stream(offset, end)
        self._streams.append(stream)
        if len(self._streams) > STREAMS:
            del self._streams[0]
        strided = self._strided(offset, end - offset, size, room)
        # Who starts at the start will most likely go on.
        return strided or (self._forward(stream, end, size, room) if offset == 0 else ())

    def _forward(self, stream: Stream, end: int, size: int, room: int) -> Sequence[Range]:
        if end >= stream.next:
            stream.next = end
            stream.window = min(max(2 * stream.window, FIRST_WINDOW), self._maximum)
        stream.asked = max(stream.asked, stream.next)
        target = min(stream.next + stream.window, stream.asked + room)
        if stream.window >= self.request:
            target -= target % self.request
        target = min(target, size)
        if target <= stream.asked:
            return ()
        ahead = (stream.asked, target)
        stream.asked = target
        return (ahead,)

    def _backward(self, stream: Stream, offset: int, room: int) -> Sequence[Range]:
        stream.window = min(max(2 * stream.window, FIRST_WINDOW), self._maximum)
        stream.first = offset
        before = max(0, offset - min(stream.window, room))
        return ((before, offset),) if before < offset else ()

    def _strided(self, offset: int, length: int, size: int, room: int) -> Sequence[Range]:
        stride = offset - self._last
        self._strides = min(self._strides + 1, STRIDES) if stride and stride == self._stride else 0
        self._stride, self._last = stride, offset
        steps = min(self._strides, room // length) if length else 0
        starts = (offset + stride * step for step in range(1, steps + 1))
        return tuple((start, min(start + length, size)) for start in starts if 0 <= start < size)

    def _step(self, stream: Stream) -> int:
        """Return by how much the window may shrink before it is filled again: one request, less while it is small."""
        return min(self.request, stream.window // 2)

    def _stream_of(self, offset: int) -> Stream | None:
        near = (stream for stream in reversed(self._streams) if stream.first - SLACK <= offset <= stream.next + SLACK)
        return next(near, None)
