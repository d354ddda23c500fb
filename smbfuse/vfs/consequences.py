"""What follows from what the node table finds out: here and in the kernel, what was kept is let go of."""

import math
from collections.abc import Collection

from smbfuse.share import FileStat
from smbfuse.vfs.blocks import BlockCache
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.removal import Removal


class Consequences:
    """The observer of a node table. The parts that it tells need that table themselves: they are set once made."""

    nodes: NodeTable
    files: OpenFiles
    directories: OpenDirectories
    removal: Removal

    def __init__(self, blocks: BlockCache, kernel: KernelCache) -> None:
        self._blocks = blocks
        self._kernel = kernel

    def content_changed(self, node: Node, stat: FileStat) -> None:
        """Let go of what was kept of a file's former content."""
        self.files.content_changed(node, stat)

    def name_gone(self, folder: Folder, key: str, shown: Collection[bytes]) -> None:
        """Let the kernel ask again for a name, and us."""
        self.directories.doubt(folder, key, self.nodes.ask(-math.inf).number)
        for spelling in shown:
            self._kernel.invalidate_entry(folder.ino, spelling)

    def node_gone(self, ino: int) -> None:
        """Let go of what was kept under a number: it may be another file's soon."""
        self._blocks.drop(ino)
        self.removal.node_gone(ino)
        if self.files.told is not None:
            self.files.told.forget(ino)
