"""Open files: they join the block cache and the read-ahead to one handle on the server.

All opens of one file share one handle on the server and one set of blocks. What an open returns is compared with what
is known: if size, write time and change time are as they were, the kernel keeps its pages and we keep our blocks.

A read of 128 KiB that hits the cache is one bisection and one slice: no await, no lock, no copy.
"""

import errno as posix
import itertools
import logging
import os
from typing import Final

import trio

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import NotFound, SmbError
from smbfuse.share import Features, FileStat, Kind, OpenFile, OpenIntent, Share
from smbfuse.vfs.attrs import Lifetimes, version
from smbfuse.vfs.blocks import GRAIN, BlockCache, FileBlocks, Spawn, request_size
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Opened
from smbfuse.vfs.readahead import Readahead

log = logging.getLogger(__name__)

FIRST_BYTES: Final = 64 << 10  # a file no larger is brought whole by its open
IN_FLIGHT: Final = 8 << 20  # bytes on their way for one file, ahead of need: 8 requests where they are large
JOIN_S: Final = 0.5  # longest wait for an open that was begun ahead of need
CLOSE_WITHIN_S: Final = 0.01  # files closed one after the other are closed on the server together
SPARE_REQUESTS: Final = 2  # of those the server takes at once, left for whoever reads nothing ahead


class SharedFile:
    """A file that is open here any number of times, and once on the server. Counts its holders; the last one closes."""

    def __init__(self, node: Node, share: Share, server: OpenFile, files: "OpenFiles", request: int) -> None:
        self.node = node
        self.share = share
        self.data: FileBlocks
        self.size = 0
        self._server = server
        self._files = files
        self._holders = 0
        self.opens = 0  # by the kernel. Fetches hold the handle too, and may outlive them
        self.ahead = 0  # opens ahead of the kernel's
        self.request = request  # bytes that one fetch asks for

    def __repr__(self) -> str:
        return f"<SharedFile {self.node!r} holders={self._holders}>"

    def hold(self) -> None:
        """Count one more that needs the handle."""
        self._holders += 1

    def let_go(self) -> None:
        """Undo one `hold`; the last closes the handle, without waiting for an answer."""
        self._holders -= 1
        if self._holders == 0:
            self._files.close(self.share, self._server)

    async def read(self, offset: int, length: int) -> memoryview:
        """Read from the server, in one request; see `OpenFile.read`."""
        # A reconnect may have lowered the limit since the block was claimed.
        return await self._server.read(offset, min(length, self.share.limits.read))


class Handle:
    """One open(2)."""

    __slots__ = ("file", "readahead")

    def __init__(self, file: SharedFile, readahead: Readahead) -> None:
        self.file = file
        self.readahead = readahead


class OpenFiles:
    """All open files, by the handle number the kernel has."""

    def __init__(self, nodes: NodeTable, blocks: BlockCache, cache: Cache, lifetimes: Lifetimes, spawn: Spawn) -> None:
        self.nodes = nodes
        self.spawn = spawn
        self._blocks = blocks
        self._cached = cache.mode is not CacheMode.NONE
        # What is read ahead must still be there when its reader comes.
        self._readahead = min(cache.readahead, cache.size // 4) if self._cached else 0
        self._lifetimes = lifetimes
        self._handles: dict[int, Handle] = {}
        self._shared: dict[int, SharedFile] = {}
        self._opening_ahead: dict[int, trio.Event] = {}  # by inode; set when it has ended, well or not
        self._closing: list[OpenFile] = []
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._handles)

    async def open(self, node: Node, flags: int) -> Opened:
        """Open a file for reading.

        Cost: 1 round trip, with all of a small file; none if it is open already and its attributes are still good.
        Raises: SmbError with EROFS (opened for writing), EISDIR, ELOOP (a symlink), ESTALE (another file has taken the
        name: look it up again), and as `Share.open`.
        """
        _refuse(node, flags)
        ahead = self._opening_ahead.get(node.ino)
        if ahead is not None:
            with trio.move_on_after(JOIN_S):  # asked before us, so most likely answered before
                await ahead.wait()
        file = await self._hold(node)
        file.opens += 1
        fh = next(self._numbers)
        self._handles[fh] = Handle(file, Readahead(file.request, self._readahead))
        if not self._cached:
            return Opened(fh, direct_io=True, keep_cache=False)
        content = hash(file.data.version)
        kept = node.pages == content
        node.pages = content
        return Opened(fh, direct_io=False, keep_cache=kept)

    async def read(self, fh: int, offset: int, length: int) -> memoryview | bytes:
        """Return [offset, offset + length) of an open file; less only at its end.

        A view of cached bytes wherever one block holds them, else a joined copy.
        Cost: none on a hit; else 1 round trip, several requests in flight.
        Raises: SmbError with EBADF, ESTALE, and as `OpenFile.read`.
        """
        handle = self._handle(fh)
        file = handle.file
        if not self._cached:
            return await self._read_uncached(file, offset, length)
        end = min(offset + length, file.size)
        if offset >= end:
            return b""
        view = file.data.hit(offset, end)
        if view is not None:
            self._blocks.hits += 1
            if not handle.readahead.follows(offset, end):
                self._read_ahead(handle, offset, end)
            return view
        return await self._read_missing(handle, offset, end)

    def release(self, fh: int) -> None:
        """Close an open file. Waits for nothing."""
        handle = self._handles.pop(fh, None)
        if handle is None:
            return
        handle.file.opens -= 1
        self._let_go(handle.file)

    def will_open(self, node: Node) -> None:
        """Announce `open_ahead`, which a task yet to begin will call: who opens the file meanwhile waits for that."""
        self._opening_ahead[node.ino] = trio.Event()

    async def open_ahead(self, node: Node) -> SharedFile:
        """Open a file, announced by `will_open`, for whoever will open it: he finds it open.

        To be undone by `let_go_ahead`.  Cost and errors: as `open`.
        """
        try:
            file = await self._hold(node)
            file.ahead += 1
            return file
        finally:
            self._opening_ahead.pop(node.ino).set()

    def let_go_ahead(self, file: SharedFile) -> None:
        """Undo `open_ahead`. Waits for nothing."""
        file.ahead -= 1
        self._let_go(file)

    def close(self, share: Share, server: OpenFile) -> None:
        """Give a handle back to the server, soon: many small files are closed in one message to the socket, not many.

        At once where the handle may stand in others' way: one from OPEN_ANDX of SMB1 forbids deletion.
        """
        if Features.COMPOUND not in share.features:
            self.spawn(server.aclose)
            return
        self._closing.append(server)
        if len(self._closing) == 1:
            self.spawn(self._close_soon)

    async def _close_soon(self) -> None:
        await trio.sleep(CLOSE_WITHIN_S)
        closing, self._closing = self._closing, []
        for server in closing:
            await server.aclose()

    def is_open(self, node: Node) -> bool:
        """Tell whether a program has the file open."""
        file = self._shared.get(node.ino)
        return file is not None and file.opens > 0

    def is_shared(self, node: Node) -> bool:
        """Tell whether the file is open on the server, for whomever, or about to be so ahead of need."""
        return node.ino in self._shared or node.ino in self._opening_ahead

    def content_changed(self, node: Node, stat: FileStat) -> bool:
        """Read another content of an open file from now on; False: it is not open."""
        file = self._shared.get(node.ino)
        if file is not None:
            self._adopt_content(file, stat)
        return file is not None

    def _handle(self, fh: int) -> Handle:
        try:
            return self._handles[fh]
        except KeyError:
            raise SmbError(f"no open file {fh}", errno=posix.EBADF) from None

    # -- opening

    async def _hold(self, node: Node) -> SharedFile:
        self.nodes.pin(node)
        try:
            file = await self._shared_file(node)
        except BaseException:
            self.nodes.unpin(node)
            raise
        file.hold()
        return file

    def _let_go(self, file: SharedFile) -> None:
        node = file.node
        if not file.opens and not file.ahead:
            if self._shared.get(node.ino) is file:
                del self._shared[node.ino]
            self._blocks.tidy(file.data)
        file.let_go()
        self.nodes.unpin(node)

    async def _shared_file(self, node: Node) -> SharedFile:
        file = self._shared.get(node.ino)
        now = trio.current_time()
        if file is not None:
            # What has lost its name can be opened again by who has it open, through /proc; and by nobody else.
            still_open = file.opens > 0 and self.nodes.nameless(node)
            if still_open or self._lifetimes.left(node.asked.at, now) > 0:
                return file
        home, path = self.nodes.locate(node)
        asked = self.nodes.ask(now)
        intent = OpenIntent(self._first_bytes(node, home.share))
        request = request_size(home.share.limits.read)
        try:
            server = await home.share.open(path, intent)
        except NotFound:
            self.nodes.lost(node, asked)
            raise
        # No await from here on: two opens at once must not make two shared files.
        if self.nodes.nameless(node) or not self.nodes.refresh(node, server.stat, asked):
            self.spawn(server.aclose)
            raise SmbError(f"{path!r} is another file now", errno=posix.ESTALE)
        file = self._shared.get(node.ino)
        if file is None:
            file = self._shared[node.ino] = SharedFile(node, home.share, server, self, request)
        else:
            self.spawn(server.aclose)
        self._adopt_content(file, node.stat())
        if self._cached and server.first is not None:
            self._blocks.put(file.data, server.first[: file.size])
        return file

    def _adopt_content(self, file: SharedFile, stat: FileStat) -> None:
        file.size = stat.size
        file.data = self._blocks.file(file.node.ino, version(stat))

    def _first_bytes(self, node: Node, share: Share) -> int:
        """Return how much of a file its open shall bring: all of a small one that is not here yet."""
        stat = node.stat()
        if not self._cached or not 0 < stat.size <= FIRST_BYTES:
            return 0
        if self._blocks.holds(node.ino, version(stat), stat.size):
            return 0
        return min(FIRST_BYTES, share.limits.read)

    # -- reading

    async def _read_missing(self, handle: Handle, offset: int, end: int) -> memoryview | bytes:
        file = handle.file
        data = file.data
        self._blocks.misses += 1
        wanted = (offset - offset % GRAIN, min(end + -end % GRAIN, file.size))
        blocks, fresh = data.claim(*wanted, file.request)
        self._blocks.fetch(fresh, file, ahead=False)
        self._read_ahead(handle, offset, end)
        result = await self._blocks.gather(blocks, offset, end)
        if len(result) < end - offset and data is file.data:
            await self._check_end(file, offset + len(result))
        return result

    async def _check_end(self, file: SharedFile, end: int) -> None:
        """Find out why a file ended before its known size: only a file that was cut may read short.

        Cost: 1 round trip.  Raises: SmbError with EIO if the server still says that there is more, and as `Share.stat`.
        """
        known = file.data.version
        home, path = self.nodes.locate(file.node)
        asked = self.nodes.ask(trio.current_time())
        stat = await home.share.stat(path)
        if self.nodes.refresh(file.node, stat, asked) and file.data.version == known and end < file.size:
            raise SmbError(f"{path!r} ends at byte {end}, says the server, and has {file.size}", errno=posix.EIO)

    def _read_ahead(self, handle: Handle, offset: int, end: int) -> None:
        file = handle.file
        requests = max(1, file.share.limits.in_flight - SPARE_REQUESTS)
        room = min(self._blocks.room(), min(IN_FLIGHT, requests * file.request) - file.data.pending)
        for start, stop in handle.readahead.advise(offset, end, file.size, max(0, room)):
            _, fresh = file.data.claim(start, stop, file.request)
            self._blocks.fetch(fresh, file, ahead=True)

    async def _read_uncached(self, file: SharedFile, offset: int, length: int) -> memoryview | bytes:
        blocks, fresh = self._blocks.passing(file.data.version).claim(offset, offset + length, file.request)
        self._blocks.fetch(fresh, file, ahead=False)
        return await self._blocks.gather(blocks, offset, offset + length)


def _refuse(node: Node, flags: int) -> None:
    if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
        raise SmbError("the mount is read-only", errno=posix.EROFS)
    kind = node.stat().kind
    if kind is Kind.DIRECTORY:
        raise SmbError(f"{node.name!r} is a folder", errno=posix.EISDIR)
    if kind is Kind.SYMLINK:
        raise SmbError(f"{node.name!r} is a symlink", errno=posix.ELOOP)
    if kind is not Kind.FILE:
        raise SmbError(f"{node.name!r} is no regular file", errno=posix.ENXIO)
