"""Which files are open on the server: each once, whoever has it open here; how they are opened, and when closed.

A file leaves the table some time after its last close here. First what is dirty is written. Then it is given the time
of its last write here, if anybody was shown that: a server may move the write time once more when a handle that wrote
is closed (Samba does), and a program that compares times (make, git, an editor) would take that for another change. A
time that was set through the handle stays ([MS-FSA] 2.1.4.17).
A file that is worth its pages is asked for its attributes, which tell later whether they are still its content. Then it
stays open for a while if a grant allows it, because many files are opened again at once; a small one that was just
written does not: opening it again costs less than all this.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import trio

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import SmbError
from smbfuse.share import Caching, Change, OpenFile, Share
from smbfuse.vfs.attrs import Lifetimes, version
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.breaks import Breaks
from smbfuse.vfs.budget import Budget
from smbfuse.vfs.closing import Closing, Kept
from smbfuse.vfs.content import Content
from smbfuse.vfs.extents import Chunk, Piece
from smbfuse.vfs.grants import Grant
from smbfuse.vfs.inode import Node, share_root
from smbfuse.vfs.modes import is_protected
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.opening import FIRST_BYTES, Opener
from smbfuse.vfs.posix import KernelCache, Unsaved
from smbfuse.vfs.sharedfile import SharedFile

log = logging.getLogger(__name__)

GONE_WITHIN_S: Final = 5.0  # longest wait for the last transfers of a file that is to be removed


class FileTable:
    """All shared files, by inode. Implements `sharedfile.Owner` and `breaks.Keeper`."""

    def __init__(
        self,
        nodes: NodeTable,
        blocks: BlockCache,
        cache: Cache,
        lifetimes: Lifetimes,
        kernel: KernelCache,
        spawn: Spawn,
    ) -> None:
        self._cached = cache.mode is not CacheMode.NONE
        self._loose = cache.mode is CacheMode.LOOSE
        self.content = Content(nodes, blocks, kernel, cache, spawn)
        self.budget = Budget(cache.dirty_limit, spawn)
        self._nodes = nodes
        self._blocks = blocks
        self._lifetimes = lifetimes
        self._kernel = kernel
        self._spawn = spawn
        self._files: dict[int, SharedFile] = {}
        self._given_up: list[Unsaved] | None = None  # what was, since the end has begun
        self._ending: Counter[int] = Counter()  # files out of the table that transfers still hold open, by inode
        self._gone = trio.lowlevel.ParkingLot()  # who waits for the last of these to end
        self._closing = Closing(spawn)
        self._kept = Kept(cache.close_timeout_s, self._end, spawn)
        self._breaks = Breaks(nodes, blocks, kernel, self, spawn)
        self._opener = Opener(nodes, blocks, self.content, self._breaks, kernel, spawn, cached=self._cached)

    def __len__(self) -> int:
        return len(self._files)

    def get(self, node: Node) -> SharedFile | None:
        """Return a file that is open on the server; None: it is not."""
        return self._files.get(node.ino)

    def all(self) -> list[SharedFile]:
        """Return every file that is open on the server."""
        return list(self._files.values())

    def path_of(self, node: Node) -> str:
        """Return what a log calls a file: its path, or its last name if it has none any longer."""
        try:
            return self._nodes.locate(node)[1]
        except SmbError:
            return node.name

    # -- opening

    async def hold(
        self, node: Node, *, read: bool, write: bool, truncate: bool = False, join_until: float = math.inf
    ) -> tuple[SharedFile, bool]:
        """Count one more user of a file, opened on the server if need be; tell whether the open has emptied it.

        That it does with `truncate`, unless the file was open already: writes may be under way then. `join_until` is
        when an open by somebody else that is under way is no longer waited for. To be undone by `let_go_user`.
        Cost: none if it is open for this and its attributes are good, else 1 round trip.
        Raises: as `OpenFiles.open`.
        """
        file = self._files.get(node.ino) or self._enter(node, share_root(node).share, Grant())
        self._add_user(file)
        emptied = False
        try:
            if not file.opening.value or not self._suits(file, read=read, write=write):
                turn = await self._turn(file, join_until)
                try:
                    if not self._suits(file, read=read, write=write):
                        emptied = truncate and not file.handles()
                        # Samba tells nothing new of a file while any handle of ours is left: who opens it again and
                        # again would never see what programs on the server itself do to it.
                        await self._closing.close_now(node.ino)
                        await self._opener.open(file, read=read, write=write, truncate=emptied)
                finally:
                    if turn:
                        file.opening.release()
        except BaseException:
            self.let_go_user(file)
            raise
        return file, emptied

    async def joined(self, node: Node, until: float) -> None:
        """Wait until an open of a file that is under way has ended, but not behind one that hangs."""
        file = self._files.get(node.ino)
        if file is not None and not file.opening.value and await self._turn(file, until):
            file.opening.release()

    def begin_ahead(self, node: Node) -> SharedFile:
        """Enter a file that is not open, with one user, and keep others from opening it; `open_ahead` is to follow.

        Raises: SmbError with ESTALE (its name is gone).
        """
        file = self._enter(node, share_root(node).share, Grant())
        self._add_user(file)
        self._kept.count(file)
        file.opening.acquire_nowait()
        return file

    async def open_ahead(self, files: Sequence[SharedFile], told: Callable[[SharedFile, bool], None]) -> None:
        """Open what `begin_ahead` has entered, all of one share; each is told, as soon as it is known whether it is.

        What is open is to be let go by `let_go_user`; what is not has been.
        Cost: as `Share.open_ahead`.
        """

        def ended(file: SharedFile, error: SmbError | None) -> None:
            file.opening.release()
            told(file, error is None)
            if error is not None:
                log.debug("file=%r is not opened ahead: %s", file.path, error)
                self.let_go_user(file)

        for file in files:
            await self._closing.close_now(file.node.ino)  # as `hold` does
        await self._opener.open_ahead(files, ended)

    def adopt(self, node: Node, share: Share, server: OpenFile, grant: Grant, *, write: bool) -> SharedFile:
        """Take over a file that was opened elsewhere, with one user; see `hold`."""
        file = self._files.get(node.ino)
        if file is None:
            file = self._enter(node, share, grant)
        else:
            # The name led to a file that is open here under another one. Its former grant was broken by this open; what
            # its handles can do and this one cannot, they go on doing.
            file.grant = grant
        self._add_user(file)
        self.content.adopt(file, server.stat)
        file.attach(server, reads=True, writes=write)
        grant.tell(self._breaks.listener(file))
        return file

    def let_go_user(self, file: SharedFile) -> None:
        """Undo one `hold` or `adopt`. The last one begins the end of the file, and waits for nothing."""
        file.users -= 1
        if not file.users:
            self._finish_later(file)
        file.let_go()

    def written(self, file: SharedFile) -> None:
        """Hear that nobody has the file open to write any longer."""
        if file.users:
            self._finish_later(file)

    # -- content

    def covers(self, file: SharedFile) -> bool:
        """Tell whether what is known of a file is good without a time limit."""
        return file.covered and (not file.moves_time or file.written_ns is not None)

    def wrote(self, file: SharedFile, pieces: Sequence[Piece]) -> None:
        """Hear that pieces of one run were written to the server."""
        self.content.wrote(file, pieces)

    # -- closing

    def close(self, file: SharedFile, server: OpenFile) -> None:
        """Give a handle back to the server, soon; see `Closing`."""
        self._closing.close(file, server)

    async def close_now(self, node: Node) -> None:
        """Give back what is about to be closed of a file; see `OpenFiles.close_now`."""
        await self._closing.close_now(node.ino)

    async def stand_aside(self, node: Node) -> None:
        """Let nothing of ours forbid that a file is renamed or removed; see `OpenFiles.stand_aside`."""
        file = self._files.get(node.ino)
        if file is not None:
            if not file.users:
                await self.save(file)
                self.give_up(file)
            for handle in file.handles():
                with handle as server:
                    await server.stand_aside()
        if node.ino in self._ending:
            with trio.move_on_after(GONE_WITHIN_S):
                while node.ino in self._ending:
                    await self._gone.park()
        await self._closing.close_now(node.ino)

    def give_up(self, file: SharedFile) -> None:
        """Close a file at once, unless somebody has it open, or it is not all written."""
        if not file.users and not file.writes.unsaved and not file.ended:
            file.at_once = True
            self._end(file)

    def let_go(self, file: SharedFile) -> None:
        """Hear that no transfer of a file is under way, and nobody uses it."""
        if file.ended:
            file.detach()
            self._ending[file.node.ino] -= 1
            if not self._ending[file.node.ino]:
                del self._ending[file.node.ino]
                self._gone.unpark_all()
            self._nodes.unpin(file.node)

    async def take_over(self, file: SharedFile) -> None:
        """Have the kernel hand over what it has kept of writes (`cache=loose`): it is dirty here, then."""
        if self._loose and file.write_opens:
            await self._kernel.drop_pages(file.node.ino)

    async def settle_times(self, file: SharedFile) -> None:
        """Give a file on the server the time that was shown here; learn what its attributes are then.

        Cost: none for a small file whose time nobody has asked for or set; else 1 round trip or 2.
        """
        if file.written_ns is None and not file.own_changes:
            return
        async with file.settling:
            written_ns = file.written_ns
            if not self._settles_itself(file):
                try:
                    await self._settle_times(file, written_ns)
                except SmbError as error:
                    log.debug("file=%r keeps the server's times: %s", file.path, error)
            if file.written_ns == written_ns:
                file.written_ns = None
                file.time_shown = False

    def _settles_itself(self, file: SharedFile) -> bool:
        """Tell whether the last close of a file gives it a time that is as good as the one that was shown here.

        A file that is open goes on being asked about, and its last close would move the time; a handle that was told to
        keep another time would not move it at all.
        """
        kept = file.writer is not None and file.writer.keeps_time
        return not (file.time_shown or file.size > FIRST_BYTES or file.users or kept)

    async def _settle_times(self, file: SharedFile, written_ns: int | None) -> None:
        if file.writer is None:
            return
        with file.writer as server:
            if written_ns is not None:
                await server.change(Change(written_ns=written_ns))
                file.moves_time = False
            if file.own_changes and file.covered and not file.moves_time:
                asked = self._nodes.ask(trio.current_time())
                stat = await server.refresh()
                # What was written meanwhile may be on the server already, and not in this answer.
                if not file.writes.unsaved and file.covered and file.node.asked.number < asked.number:
                    self._nodes.changed_here(file.node, stat, asked.at)
                    self.content.adopt(file, stat)

    async def save(self, file: SharedFile) -> None:
        """Write out everything of a file that the server is to know of it."""
        await self.take_over(file)
        await file.writes.drain()
        await self.settle_times(file)

    async def drain(self, deadline: float, *, ending: bool = True) -> Sequence[Unsaved]:
        """Write everything out, until `deadline`; return what could not be saved, for the log.

        If that is the end, with what was given up since: a program may close a file at the very last.
        """
        if ending and self._given_up is None:
            self._given_up = []
        if trio.current_time() < deadline:  # else nothing is begun: whose tasks these would be may have ended
            with trio.move_on_at(deadline):
                async with trio.open_nursery() as nursery:
                    for file in self.all():
                        nursery.start_soon(self.save, file)
        return (self._given_up or []) + [one for file in self.all() for one in _unsaved(file, file.writes.remains())]

    # -- inside: opening

    async def _turn(self, file: SharedFile, until: float) -> bool:
        """Wait for one's turn to open a file, to be given back by a release; False: not behind an open that hangs."""
        try:
            file.opening.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_at(until) as patience:
                await file.opening.acquire()
            return not patience.cancelled_caught
        return True

    def _add_user(self, file: SharedFile) -> None:
        file.users += 1
        file.hold()
        self._kept.take(file)

    def _enter(self, node: Node, share: Share, grant: Grant) -> SharedFile:
        stat = node.stat()
        data = self._blocks.file(node.ino, version(stat))
        file = SharedFile(self, node, share, grant, data, stat.size, self.budget)
        self._files[node.ino] = file
        self._nodes.pin(node)
        return file

    def _suits(self, file: SharedFile, *, read: bool, write: bool) -> bool:
        """Tell whether an open needs nothing of the server."""
        if not file.can(read=read, write=write):
            return False
        if write and is_protected(file.node.stat()):
            return False  # it was opened before it was protected: the server shall say whether it may be again
        # What has lost its name can be opened again by who has it open, through /proc; and by nobody else.
        still_open = file.opens > 0 and self._nodes.nameless(file.node)
        left_s = self._lifetimes.left(file.node.asked.at, trio.current_time())
        return still_open or self.covers(file) or left_s > 0

    # -- inside: closing

    def _finish_later(self, file: SharedFile) -> None:
        worth_its_pages = file.own_changes and file.covered and file.size > FIRST_BYTES
        unsaved = file.writes.unsaved
        if file.written_ns is not None and not unsaved and not file.settling.locked() and self._settles_itself(file):
            file.written_ns = None
        if unsaved or file.written_ns is not None or worth_its_pages:
            file.hold()
            self._spawn(self._finish, file)
        else:
            self._rest(file)

    async def _finish(self, file: SharedFile) -> None:
        try:
            await file.writes.drain(again=False)
            if not file.write_opens:
                await self.settle_times(file)
            self._rest(file)
        finally:
            file.let_go()

    def _rest(self, file: SharedFile) -> None:
        """Keep a file that nobody uses any longer open for a while, or close it."""
        if file.users or file.ended:
            return
        if file.writes.losses:
            given_up = file.writes.abandon()
            if self._given_up is not None:
                self._given_up += _unsaved(file, given_up)
        wanted = not file.moves_time and not self._nodes.nameless(file.node)
        if wanted and Caching.HANDLE in file.grant.current and file.handles() and self._kept.keep(file):
            return
        self._end(file)

    def _end(self, file: SharedFile) -> None:
        self._kept.take(file)
        file.ended = True
        node = file.node
        del self._files[node.ino]
        # Whatever is asked of the file next, or set, must come after a close that moves its time.
        file.at_once = file.at_once or file.moves_time
        if file.moves_time or file.own_changes:
            # Which version the server will call the content that we have written, nobody knows.
            self._blocks.drop(node.ino)
            node.pages = None
            self._nodes.doubt(node)
        self._blocks.tidy(file.data)
        self._ending[node.ino] += 1
        file.hold()
        file.let_go()


def _unsaved(file: SharedFile, ranges: Sequence[Chunk]) -> list[Unsaved]:
    reason = str(file.writes.error or "no answer in time")
    return [Unsaved(file.path, chunk.start, chunk.end - chunk.start, reason) for chunk in ranges]
