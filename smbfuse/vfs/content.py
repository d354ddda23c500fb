"""What is kept of an open file's content: whose change it was when the server tells of another version.

A version is size, write time and change time, so every write makes another one. If nobody else can have written, under
a grant, it is our own and everything stays. Else nobody can tell whose it is: after each own write the version is
unknown, nothing is kept across it, and what is read meanwhile is not kept across the next version that the server
tells. With `cache=loose` a change after own writes is taken for our own: that is what the mode is for.
"""

from collections.abc import Sequence

from smbfuse.config import Cache, CacheMode
from smbfuse.share import FileStat
from smbfuse.vfs.attrs import version
from smbfuse.vfs.blocks import BlockCache
from smbfuse.vfs.extents import Piece
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.sharedfile import UNKNOWN, SharedFile


class Content:
    """Joins what is known of files to what is kept of them, here and in the kernel."""

    def __init__(self, nodes: NodeTable, blocks: BlockCache, kernel: KernelCache, cache: Cache) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._kernel = kernel
        self._cached = cache.mode is not CacheMode.NONE
        self._loose = cache.mode is CacheMode.LOOSE

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
            self._kernel.invalidate_inode(node.ino, False)
