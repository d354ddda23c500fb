"""Nodes whose last known name is gone while the kernel, or who has the file open, still holds them.

Such a file may come back under another name: another client has renamed it. What was removed here cannot; and the
server may give its number to the next file that is made, while the kernel has not let go of it yet. Taken for the same,
that one would be told ESTALE or EEXIST by the kernel: a folder cannot be at two places, nor made twice.
"""

from smbfuse.share import FileStat
from smbfuse.vfs.inode import Folder, Node, ShareRoot, proven_same


class Nameless:
    """The nodes without a name, by number."""

    def __init__(self) -> None:
        self._homes: dict[int, ShareRoot] = {}
        self._removed: set[int] = set()

    def __contains__(self, node: Node) -> bool:
        return node.ino in self._homes

    def home(self, node: Node) -> ShareRoot | None:
        """Return where a node was; None: it has a name."""
        return self._homes.get(node.ino)

    def note(self, node: Node, home: ShareRoot, *, removed: bool) -> None:
        """Enter a node. `removed`: here, and the link was counted."""
        self._homes[node.ino] = home
        if removed and (isinstance(node, Folder) or node.stat().links == 0):
            self._removed.add(node.ino)

    def drop(self, ino: int) -> None:
        """Forget a node, if it is here: it has a name again, or is no more."""
        self._homes.pop(ino, None)
        self._removed.discard(ino)

    def may_be(self, node: Node, home: ShareRoot, stat: FileStat) -> bool:
        """Tell whether what was found in `home`, with a node's number, is its file: another client has renamed it."""
        if self._homes.get(node.ino) is not home or node.ino in self._removed:
            return False
        known = node.stat()
        return proven_same(known, stat) or (not node.pins and home.same_file(known, stat))
