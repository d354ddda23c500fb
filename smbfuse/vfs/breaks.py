"""Breaks: what is done when the server takes a grant back, before it is told that it was done.

Another client's open waits for the answer, and the server's patience ends after some 35 s. So everything has its bound,
and nothing here needs a worker of the kernel's: what is dirty is sent by tasks of our own, and a kernel that does not
give up its pages in time delays the answer by `PAGES_S` at most; until it has, nothing of that file is kept.
"""

import logging
from typing import Final, Protocol

import trio

from smbfuse.errors import SmbError
from smbfuse.share import Caching
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.sharedfile import UNKNOWN, SharedFile

log = logging.getLogger(__name__)

DATA_S: Final = 20.0  # longest time that dirty data delays the answer
PAGES_S: Final = 10.0  # longest time that the kernel's pages do


class Keeper(Protocol):
    """Who keeps files open that nobody has open here."""

    def give_up(self, file: SharedFile) -> None:
        """Close a file at once, unless somebody has it open."""
        ...

    async def take_over(self, file: SharedFile) -> None:
        """Have the kernel hand over what it has kept of writes."""
        ...

    async def settle_times(self, file: SharedFile) -> None:
        """Give the file on the server the times that were shown here."""
        ...


class Breaks:
    """Answers the breaks of all files."""

    def __init__(self, nodes: NodeTable, blocks: BlockCache, kernel: KernelCache, keeper: Keeper, spawn: Spawn) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._kernel = kernel
        self._keeper = keeper
        self._spawn = spawn

    def listener(self, file: SharedFile) -> "FileBreaks":
        """Return who hears of the breaks of one file."""
        return FileBreaks(self, file)

    def broken(self, file: SharedFile, remaining: Caching, acknowledge: bool) -> None:
        """Begin to answer a break. Plain: it comes from the connection's reader."""
        log.debug("grant broken file=%r remaining=%r acknowledge=%s", file.path, remaining, acknowledge)
        if file.ended:
            return  # its close is the answer, and is on its way; its inode may be another open's by now, or nobody's
        self._contest(file)
        purged = None
        if Caching.READ not in remaining:
            purged = self.drop(file)
        file.hold()
        self._spawn(self._answer, file, remaining, acknowledge, purged)

    def _contest(self, file: SharedFile) -> None:
        """Believe nothing of a file for a moment, its name included: another client is about to do something to it."""
        node = file.node
        self._nodes.contested.note(node.ino)
        if node.parent is None:
            node.outdate()
        else:
            self._nodes.doubt_name(node.parent, node.key)

    def lost(self, file: SharedFile) -> None:
        """Hear that the connection has ended: what is clean is believed for its time, what is dirty is sent again."""
        self._kernel.invalidate_inode(file.node.ino, True)
        self._keeper.give_up(file)

    def regained(self, file: SharedFile) -> None:
        """Begin to believe a grant again that came with a handle opened anew. Plain: see `share.GrantHolder`."""
        if not file.ended:
            file.hold()
            self._spawn(self._regain, file)

    async def _regain(self, file: SharedFile) -> None:
        """Take what the handles have been granted, once it is known what became of the file since the loss.

        Cost: 1 round trip.
        """
        try:
            for handle in file.handles()[:1]:
                asked = self._nodes.ask(trio.current_time())
                with handle as server:
                    stat = await server.refresh()
                self._nodes.told(file.node, stat, asked)
            granted = Caching.NONE
            for handle in file.handles():
                granted |= handle.server.caching  # as it is now: it may have been broken since
            file.grant.given(granted)
            log.debug("grant regained file=%r caching=%r", file.path, granted)
        except SmbError as error:
            log.debug("grant not made use of file=%r reason=%s", file.path, error)
        finally:
            file.let_go()

    def drop(self, file: SharedFile) -> trio.Event:
        """Forget all that is kept of a file's content, here and in the kernel; the event is set when it has happened.

        Until then its reads pass the cache by, and its attributes are asked for.
        """
        purged = trio.Event()
        file.purging += 1
        file.foreign = file.opens > 0
        self._blocks.drop(file.node.ino)
        file.data = self._blocks.passing(UNKNOWN)
        file.node.pages = None
        file.node.outdate()
        self._spawn(self._drop_pages, file, purged)
        return purged

    async def _drop_pages(self, file: SharedFile, purged: trio.Event) -> None:
        try:
            await self._kernel.drop_pages(file.node.ino)
        finally:
            file.purging -= 1
            if not file.purging and not file.ended:
                file.data = self._blocks.file(file.node.ino, UNKNOWN)
            purged.set()

    async def _answer(self, file: SharedFile, remaining: Caching, acknowledge: bool, purged: trio.Event | None) -> None:
        latest = trio.current_time() + DATA_S + PAGES_S
        try:
            if Caching.WRITE not in remaining:
                with trio.move_on_after(PAGES_S):
                    await self._keeper.take_over(file)
            if Caching.WRITE not in remaining and file.writes.unsaved:
                with trio.move_on_after(DATA_S) as patience:
                    await file.writes.drain()
                if patience.cancelled_caught:
                    log.warning("file=%r is not all written after %g s, and another client waits", file.path, DATA_S)
            if Caching.WRITE not in remaining:
                await self._keeper.settle_times(file)
            if purged is not None:
                with trio.move_on_at(min(latest, trio.current_time() + PAGES_S)):
                    await purged.wait()
            if Caching.HANDLE not in remaining:
                self._keeper.give_up(file)
        finally:
            file.let_go()
        self._nodes.contested.note(file.node.ino)  # the other client waits for the answer, and begins only now
        if acknowledge:
            # A file that was given up has none left: its close is the answer, and who waits finds it closed.
            for handle in file.handles():
                await handle.server.acknowledge(remaining)


class FileBreaks:
    """Hears of the breaks of one file. Implements `grants.Listener`."""

    __slots__ = ("_breaks", "_file")

    def __init__(self, breaks: Breaks, file: SharedFile) -> None:
        self._breaks = breaks
        self._file = file

    def broken(self, remaining: Caching, acknowledge: bool) -> None:
        """Hear of a break; see `Breaks.broken`."""
        self._breaks.broken(self._file, remaining, acknowledge)

    def lost(self) -> None:
        """Hear of the connection's end; see `Breaks.lost`."""
        self._breaks.lost(self._file)

    def regained(self) -> None:
        """Hear that a grant is there again; see `Breaks.regained`."""
        self._breaks.regained(self._file)
