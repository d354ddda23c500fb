"""Asks for a whole path at once that was gone before: the kernel asks for one name after the other.

Who opened `a/b/c/file` and comes back when nothing of it is believed any longer would wait four times. The kernel asks
for `a` first, and most likely goes on as the last time: so `a/b`, `a/b/c` and the file are asked for beside it. A guess
that nobody came for is not made again until the way has been gone again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.bypath import renew_unasked
from smbfuse.vfs.inode import Folder, Node
from smbfuse.vfs.nodes import NodeTable

FOLDERS_MAX: Final = 512  # of which it is known where the way led on
STEPS_MAX: Final = 16  # asked for at once


class _Step:
    """Where the way led on from a folder."""

    __slots__ = ("guessed", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.guessed = False  # it was asked for ahead, and nobody has come for it yet


class Trails:
    """The ways that were gone lately. `is_fresh` tells whether what is known of a node's name is still believed."""

    def __init__(self, nodes: NodeTable, is_fresh: Callable[[Node], bool], spawn: Spawn) -> None:
        self._nodes = nodes
        self._is_fresh = is_fresh
        self._spawn = spawn
        self._steps: OrderedDict[int, _Step] = OrderedDict()  # by the folder's inode
        self._under_way: dict[int, trio.Event] = {}  # by the inode that is asked for

    def went(self, folder: Folder, node: Node) -> None:
        """Hear that a name of a folder was asked for and found."""
        step = self._steps.get(folder.ino)
        if step is not None and step.node is node:
            step.guessed = False
            return
        self._steps[folder.ino] = _Step(node)
        self._steps.move_to_end(folder.ino)
        if len(self._steps) > FOLDERS_MAX:
            self._steps.popitem(last=False)

    def follow(self, folder: Folder) -> None:
        """Hear that a folder is being asked for: ask for what comes behind it, too."""
        for _ in range(STEPS_MAX):
            step = self._steps.get(folder.ino)
            if step is None:
                return
            node = step.node
            if step.guessed or node.parent is not folder or folder.children.get(node.key) is not node:
                del self._steps[folder.ino]
                return
            if not self._is_fresh(node) and node.ino not in self._under_way:
                step.guessed = True
                self._under_way[node.ino] = trio.Event()
                self._nodes.pin(node)
                self._spawn(self._ask, node)
            if not isinstance(node, Folder):
                return
            folder = node

    async def arrived(self, node: Node) -> bool:
        """Wait for what is known of a node, if it has been asked for ahead; False: it has not."""
        answered = self._under_way.get(node.ino)
        if answered is None:
            return False
        await answered.wait()
        return True

    async def _ask(self, node: Node) -> None:
        try:
            await renew_unasked(self._nodes, node)
        finally:
            self._under_way.pop(node.ino).set()
            self._nodes.unpin(node)
