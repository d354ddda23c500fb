"""The blocks of one content of one file: which of its ranges are in memory, or on their way there.

Blocks never overlap. They are found by bisection; a read that one block holds is one slice of it, and no copy.
"""

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import trio

from smbfuse.errors import SmbError
from smbfuse.vfs.attrs import Version


class Keeper(Protocol):
    """Who decides how long blocks are kept: it hears how they are used."""

    def read_through(self, block: "Block") -> None:
        """Hear that a block was read to its end."""
        ...

    def read_again(self, block: "Block") -> None:
        """Hear that a part of a block was read a second time."""
        ...


class Block:
    """A range of a file: on its way, here, or failed."""

    __slots__ = ("again", "charge", "data", "end", "error", "file", "member", "queue", "read_to", "ready", "start")

    def __init__(self, file: "FileBlocks", start: int, end: int) -> None:
        self.file = file
        self.member = True  # False once it was taken out of the file: it is then for those alone who wait for it
        self.start = start
        self.end = end
        self.data: memoryview | None = None
        self.error: SmbError | None = None
        self.ready: trio.Event | None = None  # to be waited for while it is on its way
        self.read_to = start  # bytes before this have been read once
        self.again = False  # read a second time since eviction last looked
        self.charge = 0  # bytes of memory
        self.queue: OrderedDict[Block, None] | None = None


class FileBlocks:
    """The blocks of one content of one file."""

    __slots__ = ("_blocks", "_cache", "_starts", "current", "ino", "pending", "version")

    def __init__(self, cache: Keeper, ino: int, version: Version) -> None:
        self.ino = ino
        self._cache = cache
        self._starts: list[int] = []
        self._blocks: list[Block] = []
        self.version = version
        self.pending = 0  # bytes on their way
        self.current = True  # False once the cache has dropped the file: what arrives is not kept

    def hit(self, offset: int, end: int) -> memoryview | None:
        """Return [offset, end) if one block holds all of it, else None. The hot path: no await, no copy."""
        index = bisect.bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        block = self._blocks[index]
        data = block.data
        if data is None or end > block.end:
            return None
        if offset >= block.read_to or end > block.read_to:
            block.read_to = end
            if end == block.end:
                self._cache.read_through(block)
        elif not block.again:
            self._cache.read_again(block)
        start = block.start
        return data[offset - start : end - start]

    def claim(self, start: int, end: int, request: int) -> tuple[list[Block], list[Block]]:
        """Return the blocks that cover [start, end), and which of them are new and must be fetched.

        New blocks end at multiples of `request`.
        """
        covering: list[Block] = []
        fresh: list[Block] = []
        index = max(0, bisect.bisect_right(self._starts, start) - 1)
        at = start
        while at < end:
            while index < len(self._blocks) and self._blocks[index].end <= at:
                index += 1
            if index < len(self._blocks) and self._blocks[index].start <= at:
                block = self._blocks[index]
            else:
                gap_end = self._starts[index] if index < len(self._starts) else end
                block = Block(self, at, min(end, gap_end, at - at % request + request))
                self._starts.insert(index, at)
                self._blocks.insert(index, block)
                fresh.append(block)
            covering.append(block)
            at = block.end
        return covering, fresh

    def drop(self, block: Block) -> None:
        """Take a block out, if it is still in."""
        block.member = False
        index = bisect.bisect_left(self._starts, block.start)
        if index < len(self._blocks) and self._blocks[index] is block:
            del self._starts[index], self._blocks[index]

    def overlapping(self, start: int, end: int | None) -> Sequence[Block]:
        """Return the blocks that have a byte of a range, which without an `end` goes on for ever."""
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        last = len(self._starts) if end is None else bisect.bisect_left(self._starts, end)
        return [block for block in self._blocks[first:last] if block.end > start]

    def holds(self, start: int, end: int) -> bool:
        """Tell whether all of [start, end) is here or on its way."""
        at = start
        index = bisect.bisect_right(self._starts, start) - 1
        while at < end:
            if not 0 <= index < len(self._blocks) or not self._blocks[index].start <= at < self._blocks[index].end:
                return False
            at = self._blocks[index].end
            index += 1
        return True

    def __bool__(self) -> bool:
        return bool(self._starts)

    def blocks(self) -> Sequence[Block]:
        """Return all blocks, in order."""
        return tuple(self._blocks)
