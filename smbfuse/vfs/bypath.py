"""What is asked of the server by a file's path, while names change here."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from smbfuse.errors import NotFound, SmbError
from smbfuse.share import Share
from smbfuse.vfs.attrs import Asked
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable

T = TypeVar("T")


async def by_path(nodes: NodeTable, node: Node, ask: Callable[[Share, str], Awaitable[T]]) -> tuple[T, Asked]:
    """Ask something about a node by its path; again where it was renamed here meanwhile. Return the answer, and when.

    Raises: SmbError with ESTALE (its name is gone), and as `ask` does: where that is NotFound, the name is gone now.
    """
    while True:
        asked = nodes.ask(trio.current_time())
        home, path = nodes.locate(node)
        try:
            return await ask(home.share, path), asked
        except SmbError as error:
            if node.parent is not None:
                await node.parent.settled()
            if nodes.moved(node, asked):
                continue
            if isinstance(error, NotFound):
                nodes.lost(node, asked)
            raise
