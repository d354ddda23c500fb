"""File data in memory: one bounded cache for all open files.

A block is a range of one file as it was asked for in one request. Blocks of a file never overlap; a range that is not
covered is asked for once, whoever wants it, by a task of the filesystem's nursery: a reader that is cancelled takes
nothing from the others that wait.

The unit of memory is the backing buffer: a block is a view into the reply it came in and keeps all of it alive, so that
is what is counted; a block that would keep more than twice its size alive is copied.

What goes first when room is needed. The kernel's page cache stands above this one and keeps what was read, so a block
that was read through to its end is the least likely to be asked for again: such blocks go first, oldest first. Then
blocks not yet read, then those that were read again after having been read (their second reader shows that a third
may come), each with a second chance if it was read since the last time it was considered. A scan of a huge file
therefore costs other files nothing but its own window.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from smbfuse.errors import SmbError
from smbfuse.share import Buffer
from smbfuse.vfs.attrs import Version
from smbfuse.vfs.fileblocks import Block, FileBlocks
from smbfuse.vfs.posix import BlockStatistics

# Measured on loopback against Samba 4.17: 8 requests of 1 MiB in flight beat 4 of 2 MiB and 2 of 4 MiB, both ways.
REQUEST_MAX: Final = 1 << 20
# The kernel asks for 128 KiB at a time, at multiples of it: a block whose borders are multiples too answers with one
# view. Smaller requests (SMB1) are joined, a copy that costs a tenth of their round trip.
KERNEL_REQUEST: Final = 128 << 10
PAGE: Final = 4096
GRAIN: Final = 16 << 10  # bytes; a small random read fetches at least this: on a LAN it takes as long as one page
OVERHEAD: Final = 600  # bytes that a block costs besides its buffer (measured)

Spawn = Callable[..., None]  # function, *arguments: starts a task that outlives its caller


class Source(Protocol):
    """Where the blocks of a file are fetched from: an open file on the server."""

    def hold(self) -> None:
        """Hear that a fetch begins: the source must stay open."""
        ...

    def let_go(self) -> None:
        """Hear that a fetch has ended."""
        ...

    async def read(self, offset: int, length: int) -> memoryview:
        """Read from the server, in one request. Short anywhere; empty at the end of the file."""
        ...


def request_size(largest: int) -> int:
    """Return how many bytes to move at once on a share whose largest read, or write, is `largest`.

    Raises: SmbError for a server that takes none at all.
    """
    if largest < 1:
        raise SmbError("the server moves no data: its largest read or write is 0 bytes")
    size = REQUEST_MAX
    while size > largest and size > KERNEL_REQUEST:
        size >>= 1
    return size if size <= largest else max(largest - largest % PAGE, min(largest, PAGE))


class BlockCache:
    """The blocks of all files, within `size` bytes.

    A block that somebody waits for is fetched whatever the bound; it is not kept if it does not fit.
    """

    def __init__(self, size: int, spawn: Spawn) -> None:
        self.size = size
        self._spawn = spawn
        self._files: dict[int, FileBlocks] = {}
        self._held = 0
        self._pending = 0
        # In the order of eviction.
        self._read: OrderedDict[Block, None] = OrderedDict()
        self._unread: OrderedDict[Block, None] = OrderedDict()
        self._reread: OrderedDict[Block, None] = OrderedDict()
        self.hits = 0
        self.misses = 0
        self._fetches = 0
        self._ahead = 0
        self._evicted = 0

    def __repr__(self) -> str:
        return f"<BlockCache {self._held}+{self._pending} of {self.size} bytes, {len(self._files)} files>"

    # -- files

    def file(self, ino: int, version: Version) -> FileBlocks:
        """Return the blocks of one content of a file; those of another content are dropped."""
        known = self._files.get(ino)
        if known is not None and known.version == version:
            return known
        self.drop(ino)
        file = self._files[ino] = FileBlocks(self, ino, version)
        return file

    def passing(self, version: Version) -> FileBlocks:
        """Return a file whose blocks are kept by nobody but their readers: for reads past the cache."""
        file = FileBlocks(self, 0, version)
        file.current = False
        return file

    def holds(self, ino: int, version: Version, end: int) -> bool:
        """Tell whether the first `end` bytes of a file's content are here or on their way."""
        file = self._files.get(ino)
        return file is not None and file.version == version and file.holds(0, end)

    def drop(self, ino: int) -> None:
        """Forget all of a file. Who waits for a block of it still gets that block."""
        file = self._files.pop(ino, None)
        if file is not None:
            file.current = False
            for block in file.blocks():
                self._remove(block)

    def cut(self, file: FileBlocks, start: int, end: int | None = None) -> None:
        """Forget a range of a file, because it was written: by default all from `start` on.

        What a block has besides is kept, if it is worth a block. A block still on its way is for those alone who wait
        for it: it may be from before.
        """
        for block in file.overlapping(start, end):
            data = block.data
            file.drop(block)
            self._remove(block)
            if data is None:
                continue
            for low, high in ((block.start, start), (block.end if end is None else end, block.end)):
                if high - low >= GRAIN:
                    _, (rest,) = file.claim(low, high, high)
                    rest.read_to = min(max(block.read_to, low), high)
                    self._arrived(rest, data[low - block.start : high - block.start])

    def keep(self, file: FileBlocks, start: int, data: Buffer) -> None:
        """Keep bytes that were written where nothing is kept: after a `cut`. Small ones are not worth a block.

        The kernel drops its pages of a file when it learns of another write time, its own write's too: who reads back
        what was just written comes to us. It goes first when room is needed, as if it had been read.
        """
        if len(data) < GRAIN or not file.current:
            return
        _, (block,) = file.claim(start, start + len(data), start + len(data))
        self._arrived(block, memoryview(data))
        if block.queue is not None:
            self._enqueue(block, self._read)

    def tidy(self, file: FileBlocks) -> None:
        """Leave out a file of which nothing is kept: opened once, it shall cost no memory for ever."""
        if not file and self._files.get(file.ino) is file:
            del self._files[file.ino]

    # -- reading

    def room(self) -> int:
        """Return how many bytes may be asked for ahead of need: half the cache may be on its way."""
        return max(0, self.size // 2 - self._pending)

    def fetch(self, blocks: Iterable[Block], source: Source, *, ahead: bool) -> None:
        """Ask for new blocks, each in a task of its own."""
        for block in blocks:
            self._begin(block, source)
            self._ahead += ahead
            self._spawn(self._fetch, block, source)

    def fetch_here(self, block: Block, source: Source) -> Awaitable[None]:
        """Ask for a new block in the task that awaits this, which costs less than a task of its own.

        Others may wait for it meanwhile: they get it also if this task is cancelled.
        Raises nothing of the source's: see `gather`.
        """
        self._begin(block, source)
        return self._fill_or_hand_over(block, source)

    def _begin(self, block: Block, source: Source) -> None:
        length = block.end - block.start
        block.ready = trio.Event()
        block.file.pending += length
        self._pending += length
        self._fetches += 1
        source.hold()

    async def gather(self, blocks: Sequence[Block], offset: int, end: int) -> memoryview | bytes:
        """Return [offset, end) out of the blocks that cover it, when they are here. Shorter if the file is.

        Raises: what the fetch of one of them raised.
        """
        parts: list[memoryview] = []
        for block in blocks:
            if block.ready is not None:
                await block.ready.wait()
            if block.error is not None:
                raise block.error
            data = block.data
            assert data is not None  # ready and without error
            first, last = max(offset, block.start), min(end, block.start + len(data))
            if first < last:
                parts.append(data[first - block.start : last - block.start])
                self._note_read(block, last)
            if len(data) < block.end - block.start:
                break  # the file ends here
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put(self, file: FileBlocks, data: memoryview) -> None:
        """Keep the first bytes of a file, which came with its open."""
        _, fresh = file.claim(0, len(data), max(len(data), 1))
        for block in fresh:
            self._arrived(block, data[block.start : block.end])

    async def _fetch(self, block: Block, source: Source) -> None:
        try:
            await self._fill(block, source)
        except BaseException:
            # Cancelled: the filesystem ends. Nobody may be left waiting.
            self._failed(block, SmbError("the filesystem is being unmounted"))
            self._end(block, source)
            raise

    async def _fill_or_hand_over(self, block: Block, source: Source) -> None:
        try:
            await self._fill(block, source)
        except BaseException:
            self._spawn(self._fetch, block, source)
            raise

    async def _fill(self, block: Block, source: Source) -> None:
        try:
            data = await read_fully(source, block.start, block.end - block.start)
        except SmbError as error:
            self._failed(block, error)
        else:
            self._arrived(block, data)
        self._end(block, source)

    def _end(self, block: Block, source: Source) -> None:
        length = block.end - block.start
        block.file.pending -= length
        self._pending -= length
        source.let_go()

    # -- keeping

    def read_through(self, block: Block) -> None:
        """Hear that a block was read to its end."""
        if block.queue is self._unread:
            self._enqueue(block, self._read)

    def read_again(self, block: Block) -> None:
        """Hear that a part of a block was read a second time."""
        block.again = True
        if block.queue is not None and block.queue is not self._reread:
            self._enqueue(block, self._reread)

    def statistics(self) -> BlockStatistics:
        """Return a snapshot of sizes and counters."""
        return BlockStatistics(
            size=self.size,
            held=self._held,
            pending=self._pending,
            blocks=len(self._read) + len(self._unread) + len(self._reread),
            hits=self.hits,
            misses=self.misses,
            fetches=self._fetches,
            ahead=self._ahead,
            evicted=self._evicted,
        )

    def _note_read(self, block: Block, last: int) -> None:
        if last > block.read_to:
            block.read_to = last
            if last == block.end:
                self.read_through(block)

    def _arrived(self, block: Block, data: memoryview) -> None:
        backing = memoryview(data.obj).nbytes
        if 2 * len(data) < backing:
            data = memoryview(bytes(data))
            backing = len(data)
        block.data = data.toreadonly()
        self._finish(block)
        if len(data) < block.end - block.start:
            # The file is shorter than it was said to be: whoever asks again asks the server.
            block.file.drop(block)
            return
        block.charge = backing + OVERHEAD
        if block.file.current and block.member:
            self._make_room(block.charge)
            # A file whose last block was evicted may have been left out, and another content entered since.
            entered = self._files.setdefault(block.file.ino, block.file) is block.file
            if entered and self._held + block.charge <= self.size:
                self._held += block.charge
                self._enqueue(block, self._unread)
                return
        block.file.drop(block)
        self.tidy(block.file)

    def _failed(self, block: Block, error: SmbError) -> None:
        block.error = error
        block.file.drop(block)
        self._finish(block)

    def _finish(self, block: Block) -> None:
        ready, block.ready = block.ready, None
        if ready is not None:
            ready.set()

    def _make_room(self, length: int) -> None:
        while self._held + length > self.size:
            block = self._next_victim()
            if block is None:
                return
            self._evicted += 1
            self._remove(block)

    def _next_victim(self) -> Block | None:
        for queue in (self._read, self._unread):
            if queue:
                return next(iter(queue))
        while self._reread:
            block = next(iter(self._reread))
            if not block.again:
                return block
            block.again = False
            self._reread.move_to_end(block)
        return None

    def _remove(self, block: Block) -> None:
        if block.queue is not None:
            del block.queue[block]
            block.queue = None
            self._held -= block.charge
        block.file.drop(block)
        self.tidy(block.file)

    def _enqueue(self, block: Block, queue: "OrderedDict[Block, None]") -> None:
        if block.queue is not None:
            del block.queue[block]
        block.queue = queue
        queue[block] = None


async def read_fully(source: Source, offset: int, length: int) -> memoryview:
    """Read all of a range, in as many requests as the server makes of it; less only at the end of the file."""
    data = await source.read(offset, length)
    if len(data) == length or not data:
        return data
    parts = [data]
    got = len(data)
    while got < length and (data := await source.read(offset + got, length - got)):
        parts.append(data)
        got += len(data)
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
