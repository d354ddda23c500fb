"""With `cache=loose` the kernel believes itself: what it was told of a file, and how it is put right.

A kernel that writes its pages when it sees fit takes size and write time of a regular file from us once, when it first
hears of the file, and afterwards from its own writes alone (FUSE_WRITEBACK_CACHE; `fuse_get_cache_mask` in its
fs/fuse/inode.c). If another client changes the file, it would show the old size for ever, end reads there, and append
in the midst of what others wrote. So what it was told is remembered, and a file that turns out to be otherwise gets a
new generation: to the kernel that is another file, which it asks about anew. Handles that are open would fail then, so
a file that is open is left as it is; who opens it next passes the kernel's cache by.

An open that finds the file otherwise ends with ESTALE: the kernel then looks the whole path up once more, and opens
what it finds (`do_filp_open` in its fs/namei.c). It does so once; a second ESTALE would be the program's. So who has
been sent back is let through when it comes again, past the kernel's cache if the file is another one already. A walk of
a path is the affair of one thread, so threads are what is remembered: by the file, an open by somebody else would be
taken for the one that was sent back.
"""

import errno as posix
from typing import Final

from smbfuse.errors import SmbError
from smbfuse.share import FileStat
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.sharedfile import SharedFile

# Threads remembered: far more than are ever between two opens. Those whose second lookup found nothing stay until then.
MOST_SENT_BACK: Final = 4096
# Size and write time that no file has: the kernel believes we know not what, and is told of another file already.
NO_STAT: Final = (-1, None)


class Told:
    """What the kernel believes of the size and write time of regular files."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._believed: dict[int, tuple[int, int | None]] = {}
        self._sent_back: dict[int, None] = {}  # threads, the longest ago first

    def tell(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel is about to be told what a name stands for: a file that is not open."""
        if self.differs(node, stat) and self._believed[node.ino] != NO_STAT:
            self._nodes.renew(node)
        self.agree(node, stat)

    def tell_unheard(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel is about to be told of an open file, or without a name.

        It listens only if it has never heard of it.
        """
        self._believed.setdefault(node.ino, (stat.size, stat.written_ns))

    def agree(self, node: Node, stat: FileStat) -> None:
        """Hear that the kernel knows this: it was done by itself."""
        self._believed[node.ino] = (stat.size, stat.written_ns)

    def differs(self, node: Node, stat: FileStat) -> bool:
        """Tell whether the kernel believes otherwise of a file that is not open."""
        return self._believed.get(node.ino, (stat.size, stat.written_ns)) != (stat.size, stat.written_ns)

    def comes_again(self, thread: int) -> bool:
        """Hear that a thread opens a file; tell whether the kernel will not look the name up again for it.

        0 is a thread that the kernel has no number for: it lives in another namespace, and could be anybody.
        """
        if thread in self._sent_back:
            del self._sent_back[thread]
            return True
        return not thread

    def send_back(self, thread: int) -> None:
        """Hear that the open of a thread ends with ESTALE, and the kernel will look the name up for it once more."""
        if len(self._sent_back) >= MOST_SENT_BACK:
            del self._sent_back[next(iter(self._sent_back))]
        self._sent_back[thread] = None

    def opened(self, file: SharedFile, *, emptied: bool, again: bool) -> None:
        """Hear that a file is being opened; `again`: as `comes_again` said.

        Raises: SmbError with ESTALE if the kernel shall look the name up again, and open the file as it is now.
        """
        node = file.node
        stat = node.stat()
        if emptied:
            self.agree(node, stat)
        elif not file.opens and self.differs(node, stat):
            if not again:
                # The lookup makes it another file. Until then opens that are under way are to find it changed as well.
                raise SmbError(f"{node.name!r} was changed by another client", errno=posix.ESTALE)
            file.foreign = True  # it has just been looked up again: somebody is writing it all the time

    def closed(self, file: SharedFile, stat: FileStat) -> None:
        """Hear that a file was closed by all; what it has become by their doing, the kernel knows.

        Not if its cache was passed by: it may open the file again before it looks the name up, and believes the old.
        """
        if file.foreign:
            file.foreign = False
            self._nodes.renew(file.node)
            self._believed[file.node.ino] = NO_STAT
        else:
            self.agree(file.node, stat)

    def forget(self, ino: int) -> None:
        """Hear that the kernel has forgotten a file."""
        self._believed.pop(ino, None)
