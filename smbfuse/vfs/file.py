"""Open files: opened, read, written, synced and closed; see `SharedFile` for what is behind them.

What an open returns is compared with what is known: if size, write time and change time are as they were, the kernel
keeps its pages and we keep our blocks. A grant makes the comparison needless: as long as the server has not taken it
back, nobody else can have changed the file.

A read of 128 KiB that hits the cache is one bisection and one slice: no await, no lock, no copy.
"""

import errno as posix
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Final

import trio

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import SmbError
from smbfuse.share import Change, FileStat, GrantHolder, OpenFile, Share
from smbfuse.vfs.attrs import Lifetimes
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.bypath import by_path
from smbfuse.vfs.filetable import FileTable
from smbfuse.vfs.inode import Node
from smbfuse.vfs.modes import is_protected
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.opening import Opening, prepare, refuse, wants
from smbfuse.vfs.posix import KernelCache, Opened, Unsaved
from smbfuse.vfs.readahead import Readahead
from smbfuse.vfs.reading import Reading
from smbfuse.vfs.sharedfile import UNKNOWN, Handle, SharedFile
from smbfuse.vfs.told import Told
from smbfuse.vfs.writing import Writing

JOIN_S: Final = 0.5  # longest wait for an open of the same file that was begun before


class OpenFiles:
    """All open files, by the handle number the kernel has."""

    def __init__(
        self,
        nodes: NodeTable,
        blocks: BlockCache,
        cache: Cache,
        lifetimes: Lifetimes,
        spawn: Spawn,
        kernel: KernelCache,
    ) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._cached = cache.mode is not CacheMode.NONE
        self._loose = cache.mode is CacheMode.LOOSE
        # What is read ahead must still be there when its reader comes.
        self._readahead = min(cache.readahead, cache.size // 4) if self._cached else 0
        self._kernel = kernel
        self._table = FileTable(nodes, blocks, cache, lifetimes, kernel, spawn)
        self._reading = Reading(nodes, blocks, lifetimes, spawn)
        self._writing = Writing(nodes, self._table, cache)
        self.told = Told(nodes) if self._loose else None
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._handles)

    @property
    def unsaved_bytes(self) -> int:
        """How many bytes that programs wrote are not on the server: they wait, are under way, or were refused."""
        return sum(chunk.end - chunk.start for file in self._table.all() for chunk in file.writes.remains())

    # -- opening and closing

    async def open(self, node: Node, flags: int, thread: int = 0) -> Opened:
        """Open a file, for a thread of a program if the kernel has told which.

        Cost: 1 round trip, with all of a small file; none if it is open already and its attributes are still good.
        O_TRUNC of a file that is open already costs another.
        Raises: SmbError with EISDIR, ELOOP (a symlink), ESTALE (another file has taken the name, or with `cache=loose`
        another client has changed it: look it up again), and as `Share.open`.
        """
        if self.told is None:
            return await self._open(node, flags)
        again = self.told.comes_again(thread)
        try:
            return await self._open(node, flags, again=again)
        except SmbError as error:
            if error.errno == posix.ESTALE and not again:
                self.told.send_back(thread)
            raise

    async def _open(self, node: Node, flags: int, *, again: bool = False) -> Opened:
        refuse(node)
        join_until = trio.current_time() + JOIN_S
        await self._table.joined(node, join_until)  # asked before us, so most likely answered before
        read, write = wants(flags)
        truncate = bool(flags & os.O_TRUNC)
        file, emptied = await self._table.hold(node, read=read, write=write, truncate=truncate, join_until=join_until)
        try:
            if truncate and not emptied:
                await self._writing.resize(file, 0)
            if self.told is not None:
                self.told.opened(file, emptied=truncate, again=again)
        except BaseException:
            self._table.let_go_user(file)
            raise
        return self._opened(file, flags)

    def prepare(self, flags: int, mode: int) -> Opening:
        """Return how to open a file that is about to be made by that open; `adopt` takes what comes of it."""
        return prepare(flags, mode, cached=self._cached)

    def adopt(self, node: Node, share: Share, server: OpenFile, opening: Opening) -> Opened:
        """Take over a file that was opened as `prepare` said."""
        file = self._table.adopt(node, share, server, opening.grant, write=opening.intent.write)
        return self._opened(file, opening.flags)

    async def release(self, fh: int) -> None:
        """Close an open file, once what was written is on the server, or was refused.

        What was refused before is not tried again: its flush has done so, and has told the program how that ended.
        Cost: none, but for what the kernel has written since the last flush.
        """
        handle = self._handles.pop(fh, None)
        if handle is None:
            return
        file = handle.file
        try:
            if handle.writes and file.writes.unsaved:
                await file.writes.drain(again=False)
        finally:
            file.opens -= 1
            if self.told is not None and not file.opens:
                self.told.closed(file, self.shown(file.node, file.node.stat()))
            file.write_opens -= handle.writes
            self._table.let_go_user(file)
            if handle.writes and not file.write_opens:
                self._table.written(file)

    # -- data

    async def read(self, fh: int, offset: int, length: int) -> memoryview | bytes:
        """Return [offset, offset + length) of an open file; less only at its end.

        A view of cached bytes wherever one block holds them, else a joined copy.
        Cost: none on a hit; else 1 round trip, several requests in flight.
        Raises: SmbError with EBADF, ESTALE, and as `OpenFile.read`.
        """
        at_hand = self.at_hand(fh, offset, length)
        if at_hand is not None:
            return at_hand
        handle = self._handle(fh)
        if not handle.reads:
            raise SmbError(f"file {fh} is not open to read", errno=posix.EBADF)
        file = handle.file
        if handle.direct:
            if file.writes.unsaved:
                await file.writes.drain()
            return await self._reading.uncached(file, offset, length)
        end = min(offset + length, file.size)
        if offset >= end:
            return b""
        if file.writes.unsaved:
            return await self._reading.over(handle, offset, end)
        return await self._reading.missing(handle, offset, end)

    def at_hand(self, fh: int, offset: int, length: int) -> memoryview | None:
        """Return what `read` would, if one block in memory holds it; None: it is not so simple. The hot path."""
        handle = self._handles.get(fh)
        if handle is None or not handle.reads or handle.direct:
            return None
        file = handle.file
        end = min(offset + length, file.size)
        if offset >= end or file.writes.unsaved or (view := file.data.hit(offset, end)) is None:
            return None
        self._blocks.hits += 1
        whole = not offset and end >= file.server_size  # nothing lies ahead of who has read it all
        if not whole and not handle.readahead.follows(offset, end):
            self._reading.ahead(handle, offset, end)
        return view

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write to an open file; return how many bytes were taken. `data` is ours from now on, and must not change.

        Under an exclusive grant, and with `cache=loose`, they wait in memory for others to be sent with.
        Cost: none where they may wait, else 1 round trip; 1 more for O_APPEND without the grant, and for O_SYNC.
        Raises: SmbError with EBADF, and as `OpenFile.write`, for these bytes or for such as were taken before, once for
        each open file and each attempt to write them out; none of these were taken then.
        """
        handle = self._handle(fh)
        if not handle.writes:
            raise SmbError(f"file {fh} is not open to write", errno=posix.EBADF)
        return await self._writing.write(handle, offset, data)

    async def flush(self, fh: int) -> None:
        """Write out what a close(2) must not lose, and try again what was refused before.

        Cost: 1 round trip if anything waits.
        Raises: SmbError if bytes that were written to the file are not on the server even so.
        """
        handle = self._handle(fh)
        if handle.writes:
            await handle.file.writes.drain()
            handle.raise_loss()

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Write out everything, and have the server put it on its disk, unless `nostrictsync` was asked for.

        Cost: 1 round trip if anything waits, and 1 if anything was written since the last time.
        Raises: as `flush`, and as `OpenFile.flush`.
        """
        handle = self._handle(fh)
        await handle.file.writes.drain()
        handle.raise_loss()
        await self._writing.sync(handle.file)

    async def truncate(self, node: Node, size: int, fh: int | None) -> None:
        """Give a file another size, open or not.  Cost: 1 round trip.  Raises: as `Share.change`."""
        if fh is not None and not self._handle(fh).writes:
            raise SmbError(f"file {fh} is not open to write", errno=posix.EINVAL)
        file = self._table.get(node)
        # By its path, the file may have been protected since it was opened: then the server shall say.
        if file is not None and file.writer is not None and (fh is not None or not is_protected(node.stat())):
            await self._writing.resize(file, size)
            return
        await self.change_by_path(node, Change(size=size))

    # -- attributes

    async def change(self, node: Node, change: Change) -> bool:
        """Change a file's attributes by a handle that may write, if there is one; what is dirty is written before.

        A time so set stays, whatever is closed afterwards. False: there is none, `Share.change` is to be used.
        Cost: 1 round trip, 1 if anything waits, and 1 for a creation time: whether the server keeps it, it has to say.
        Raises: as `OpenFile.change`.
        """
        file = self._table.get(node)
        if file is None or file.writer is None:
            return False
        writer = file.writer
        with writer as server:
            await file.writes.drain()
            # Not beside its last close here, which gives it the time of its last write: that would be the later one.
            async with file.settling:
                asked_at = trio.current_time()
                await server.change(change)
                if change.written_ns is not None:
                    file.written_ns = None
                    file.time_shown = file.moves_time = False
                    writer.keeps_time = True
            if change.created_ns is not None:
                self._nodes.changed_here(node, await server.refresh(), asked_at)
        file.own_changes = True
        return True

    async def change_by_path(self, node: Node, change: Change) -> None:
        """Change a file's attributes by its path, or its size, and record what it is then.

        Cost: 1 round trip.  Raises: as `Share.change`, and SmbError with ESTALE (its name is gone).
        """

        async def send(share: Share, path: str) -> FileStat:
            return await share.change(path, change, self.holder(node))

        try:
            stat, sent = await by_path(self._nodes, node, send)
        except BaseException:
            self._nodes.doubt(node)
            raise
        if change.size is not None:
            file = self._table.get(node)
            if file is not None:
                self._table.content.resized(file, change.size)
            else:
                self._blocks.drop(node.ino)
                node.pages = None
        self._nodes.changed_here(node, stat, sent.at)

    def shown(self, node: Node, stat: FileStat) -> FileStat:
        """Return attributes with what was written here and is not on the server yet."""
        file = self._table.get(node)
        if file is None:
            return stat
        if file.writes.unsaved:
            # A file whose data lies nowhere on disk is taken for a hole by tar and cp.
            stat = stat._replace(size=file.size, allocation=max(stat.allocation, file.size))
        if file.written_ns is not None:
            file.time_shown = True
            stat = stat._replace(written_ns=file.written_ns, changed_ns=file.written_ns)
        return stat

    def content_changed(self, node: Node, stat: FileStat) -> None:
        """Hear that the server says otherwise of a file's content: let go of what was kept, unless it was us."""
        file = self._table.get(node)
        if file is not None:
            if self._table.content.adopt(file, stat):
                self._table.content.drop_pages_soon(file)
            return
        self._blocks.drop(node.ino)
        if node.pages is not None:
            node.pages = None
            self._kernel.invalidate_inode(node.ino, False)

    def is_open(self, node: Node) -> bool:
        """Tell whether a program has the file open."""
        file = self._table.get(node)
        return file is not None and file.opens > 0

    def is_shared(self, node: Node) -> bool:
        """Tell whether the file is open on the server, for whomever, or about to be."""
        return self._table.get(node) is not None

    def is_wanted(self, node: Node, *, to_write: bool) -> bool:
        """Tell whether the file is held open, or about to be; with `to_write`: and is open on the server to be written.

        After `joined` and `stand_aside` that is for a program.
        """
        file = self._table.get(node)
        return file is not None and file.users > 0 and not (to_write and file.writer is None)

    def holder(self, node: Node) -> GrantHolder | None:
        """Return who holds the grant on a file: what is done in its name does not break it."""
        file = self._table.get(node)
        return file.grant if file is not None and self._cached else None

    # -- for others

    async def settle(self, node: Node) -> None:
        """Write out what is dirty of a file. What is refused is told to who wrote it."""
        file = self._table.get(node)
        if file is not None:
            await file.writes.drain()

    async def joined(self, node: Node, until: float) -> None:
        """Wait until an open of a file that is under way has ended, but not behind one that hangs.  Cost: none."""
        await self._table.joined(node, until)

    async def stand_aside(self, node: Node) -> None:
        """Let none of our handles forbid that a file is renamed or removed: those kept for nobody are closed.

        Cost: none, but as `OpenFile.stand_aside` for a handle of SMB1's OPEN_ANDX.
        """
        await self._table.stand_aside(node)

    async def close_now(self, node: Node) -> None:
        """Give handles that are about to be closed back now: the close of one that wrote moves the file's times.

        Cost: none, what is asked or set next comes after it.
        """
        await self._table.close_now(node)

    async def drain(self, deadline: float, *, ending: bool = True) -> Sequence[Unsaved]:
        """Write everything out; see `FileTable.drain`."""
        return await self._table.drain(deadline, ending=ending)

    def begin_ahead(self, node: Node) -> SharedFile:
        """Announce that `open_ahead` is about to open a file that is not: who opens it meanwhile waits for that."""
        return self._table.begin_ahead(node)

    async def open_ahead(self, files: Sequence[SharedFile], told: Callable[[SharedFile, bool], None]) -> None:
        """Open files for whoever will open them: he finds them open; see `FileTable.open_ahead`.

        What is told to be open is to be let go by `let_go_ahead`.
        """
        await self._table.open_ahead(files, told)

    def let_go_ahead(self, file: SharedFile) -> None:
        """Undo `open_ahead`. Waits for nothing."""
        self._table.let_go_user(file)

    # -- inside

    def _handle(self, fh: int) -> Handle:
        try:
            return self._handles[fh]
        except KeyError:
            raise SmbError(f"no open file {fh}", errno=posix.EBADF) from None

    def _opened(self, file: SharedFile, flags: int) -> Opened:
        past_kernel = not self._cached or (self._loose and file.foreign)
        direct = past_kernel or bool(flags & os.O_DIRECT)
        if self._loose and not past_kernel:
            # The kernel's writeback cache places appended bytes itself, and reads the rest of the pages it writes.
            flags &= ~os.O_APPEND
            if flags & os.O_ACCMODE == os.O_WRONLY and file.readable is not None:
                flags = flags & ~os.O_ACCMODE | os.O_RDWR
        handle = Handle(file, Readahead(file.read_request, self._readahead), flags, direct=direct)
        file.opens += 1
        file.write_opens += handle.writes
        fh = next(self._numbers)
        self._handles[fh] = handle
        if past_kernel or (self._loose and not handle.reads):
            return Opened(fh, direct_io=True, keep_cache=False)
        node, content = file.node, file.data.version
        kept = content is not UNKNOWN and node.pages == hash(content)
        node.pages = None if content is UNKNOWN else hash(content)
        return Opened(fh, direct_io=False, keep_cache=kept)
