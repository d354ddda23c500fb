"""What the kernel is told of a node, and how long it may believe it."""

from functools import lru_cache

import trio

from smbfuse.config import View
from smbfuse.share import Kind
from smbfuse.vfs.attrs import UNPACKED_MAX, Lifetimes, unpack
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.modes import Appearance
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import Entry


class Entries:
    """Makes the kernel's entries."""

    def __init__(self, nodes: NodeTable, files: OpenFiles, view: View, lifetimes: Lifetimes) -> None:
        self._nodes = nodes
        self._files = files
        appearance = Appearance(view)
        self._posix = appearance.posix
        # Most of what is told was told before.
        self._posix_of_record = lru_cache(UNPACKED_MAX)(lambda ino, record: appearance.posix(ino, unpack(record).stat))
        self._lifetimes = lifetimes

    def of(self, node: Node, *, ours: bool = False, named: bool = True) -> Entry:
        """Return a node's entry. `ours`: the kernel itself has had it changed to what it is.

        `named`: it answers for a name; only then the kernel takes notice that it is another file.
        """
        known = node.known()
        shown = self._files.shown(node, known.stat)
        told = self._files.told
        if told is not None and shown.kind is Kind.FILE:
            if ours:
                told.agree(node, shown)
            elif not named or self._files.is_open(node):
                told.tell_unheard(node, shown)
            else:
                told.tell(node, shown)
                known = node.known()  # it may be another file to the kernel now
        if shown is known.stat:
            stat = self._posix_of_record(node.ino, node.record)
        else:
            stat = self._posix(node.ino, shown)
        if self._nodes.nameless(node):
            stat = stat._replace(nlink=0)
        name_s = attributes_s = 0.0
        if node.ino not in self._nodes.contested:
            now = trio.current_time()
            name_s = attributes_s = self._lifetimes.name_left(known.asked.at, now)
            if not isinstance(node, Folder):
                attributes_s = self._lifetimes.left(known.asked.at, now)
        return Entry(stat, known.generation, name_s, attributes_s)

    def counted(self, node: Node) -> Entry:
        """Return a node's entry, and count one lookup."""
        self._nodes.count(node)
        return self.of(node)
