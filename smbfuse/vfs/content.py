"""What is kept of an open file's content: whose change it was when the server tells of another version.

A version is size, write time and change time, so every write makes another one. If nobody else can have written, under
a grant, it is our own and everything stays. Else nobody can tell whose it is: after each own write the version is
unknown, nothing is kept across it, and what is read meanwhile is not kept across the next version that the server
tells. With `cache=loose` a change after own writes is taken for our own: that is what the mode is for.

The kernel's pages go a moment later, when no write of a program is under way. It holds the page that a write fills in
part until that is answered, and whoever has it drop that page waits: a daemon that is killed then leaves a thread that
nothing can end, which keeps the mount from ending, and the program from ever being answered.
"""

from collections.abc import Sequence
from typing import Final

import trio

from smbfuse.config import Cache, CacheMode
from smbfuse.share import FileStat
from smbfuse.vfs.attrs import version
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.extents import Piece
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.sharedfile import UNKNOWN, SharedFile

QUIET_S: Final = 0.01  # no write for so long: the program does something else
# A program that writes on and on is waited for as long as attributes are believed, within these limits.
LEAST_PATIENCE_S: Final = 0.25
MOST_PATIENCE_S: Final = 1.0


class Content:
    """Joins what is known of files to what is kept of them, here and in the kernel."""

    def __init__(self, nodes: NodeTable, blocks: BlockCache, kernel: KernelCache, cache: Cache, spawn: Spawn) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._kernel = kernel
        self._spawn = spawn
        self._cached = cache.mode is not CacheMode.NONE
        self._loose = cache.mode is CacheMode.LOOSE
        self._patience_s = min(max(LEAST_PATIENCE_S, cache.attributes_s), MOST_PATIENCE_S)

    def adopt(self, file: SharedFile, stat: FileStat) -> bool:
        """Take what the server says of a file's content; True: it is another than before, and what was kept is gone."""
        file.server_size = stat.size
        file.size = max(stat.size, file.writes.end) if file.writes.unsaved else stat.size
        node, data, new = file.node, file.data, version(stat)
        if file.purging or data.version == new:
            return False
        own = file.covered or (self._loose and file.own_changes)
        file.own_changes = file.own_changes and file.writes.unsaved
        if own or (data.version is UNKNOWN and node.pages is None and not data):
            data.version = new
            if node.pages is not None:
                node.pages = hash(new)
            return False
        file.data = self._blocks.file(node.ino, new)
        node.pages = None
        file.foreign = file.opens > 0
        return True

    def wrote(self, file: SharedFile, pieces: Sequence[Piece]) -> None:
        """Hear that pieces of one run were written to the server."""
        self._blocks.cut(file.data, pieces[0].start, pieces[-1].end)
        self._note_change(file)
        if file.data.version is not UNKNOWN and not file.ended and self._cached:
            for piece in pieces:
                self._blocks.keep(file.data, piece.start, piece.data)

    def resized(self, file: SharedFile, size: int) -> None:
        """Hear that the server has given a file another size, because we asked for it."""
        self._blocks.cut(file.data, min(size, file.server_size))
        file.server_size = size
        file.size = max(size, file.writes.end)
        file.own_changes = file.moves_time = True
        file.flushed = False
        self._note_change(file)

    def drop_pages_soon(self, file: SharedFile) -> None:
        """Have the kernel drop its attributes and pages of a file, as soon as no write is under way.

        At the latest after a second of writes that are answered quickly; not while one is not answered.
        """
        if self._is_quiet(file):
            self._kernel.invalidate_inode(file.node.ino, False)
        elif not file.pages_due:
            file.pages_due = True
            self._spawn(self._drop_pages_later, file)

    async def _drop_pages_later(self, file: SharedFile) -> None:
        latest = trio.current_time() + self._patience_s
        try:
            while not self._is_quiet(file):
                now = trio.current_time()
                if now >= latest and now - file.write_answered_at < LEAST_PATIENCE_S:
                    break
                await trio.sleep(QUIET_S)
        finally:
            file.pages_due = False
        self._kernel.invalidate_inode(file.node.ino, False)

    def _is_quiet(self, file: SharedFile) -> bool:
        return not file.writing and trio.current_time() - file.write_answered_at >= QUIET_S

    def _note_change(self, file: SharedFile) -> None:
        node = file.node
        size = file.server_size
        stat = node.stat()
        self._nodes.changed_here(node, stat._replace(size=size, allocation=max(stat.allocation, size)))
        if file.written_ns is None:
            self._nodes.doubt(node)
        if self._cached and not self._loose and not file.covered and not file.purging and not file.ended:
            # Nobody can tell whose change the next version will be, so what is here is not kept across it.
            self._blocks.drop(node.ino)
            file.data = self._blocks.file(node.ino, UNKNOWN)
            node.pages = None
            self.drop_pages_soon(file)
