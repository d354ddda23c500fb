"""With `cache=loose` the kernel believes itself: what it was told of a file, and how it is put right.

A kernel that writes its pages when it sees fit takes size and write time of a regular file from us once, when it first
hears of the file, and afterwards from its own writes alone (FUSE_WRITEBACK_CACHE; `fuse_get_cache_mask` in its
fs/fuse/inode.c). If another client changes the file, it would show the old size for ever, end reads there, and append
in the midst of what others wrote. So what it was told is remembered, and a file that turns out to be otherwise gets a
new generation: to the kernel that is another file, which it asks about anew. Handles that are open would fail then, so
a file that is open is left as it is; who opens it next passes the kernel's cache by.
"""

import errno as posix
from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.share import FileStat
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.sharedfile import SharedFile

FRESH_S: Final = 1.0  # a lookup repeated for an open is no older


class Told:
    """What the kernel believes of the size and write time of regular files."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._believed: dict[int, tuple[int, int | None]] = {}

    def tell(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel is about to be told of a file that is not open."""
        if self.differs(node, stat):
            self._nodes.renew(node)
        self.agree(node, stat)

    def tell_open(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel is about to be told of an open file: it listens only if it has never heard of it."""
        self._believed.setdefault(node.ino, (stat.size, stat.written_ns))

    def agree(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel knows this: it was done by itself."""
        self._believed[node.ino] = (stat.size, stat.written_ns)

    def differs(self, node: Node, stat: FileStat) -> bool:
        """Tell whether the kernel believes otherwise of a file that is not open."""
        return self._believed.get(node.ino, (stat.size, stat.written_ns)) != (stat.size, stat.written_ns)

    def opened(self, file: SharedFile, asked_at: float, *, emptied: bool) -> None:
        """Hear that a file is being opened, whose attributes were last asked for at `asked_at` before.

        Raises: SmbError with ESTALE if the kernel shall look the name up again, and open the file as it is now.
        """
        node = file.node
        stat = node.stat()
        if emptied:
            self.agree(node, stat)
        elif not file.opens and self.differs(node, stat):
            if asked_at + FRESH_S < trio.current_time():
                self._nodes.renew(node)
                self.agree(node, stat)
                raise SmbError(f"{node.name!r} was changed by another client", errno=posix.ESTALE)
            file.foreign = True  # it has just been looked up again: somebody is writing it all the time

    def closed(self, file: SharedFile, stat: FileStat) -> None:
        """Hear that a file was closed by all; what it has become by their doing, the kernel knows."""
        if file.foreign:
            file.foreign = False
            self._nodes.renew(file.node)
        self.agree(file.node, stat)

    def forget(self, ino: int) -> None:
        """Hear that the kernel has forgotten a file."""
        self._believed.pop(ino, None)
