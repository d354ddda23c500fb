"""What is asked of the server by a file's path, while names change here."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from smbfuse.errors import NotFound, SmbError
from smbfuse.share import Share
from smbfuse.vfs.attrs import Asked
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable

log = logging.getLogger(__name__)

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


async def renew(nodes: NodeTable, node: Node) -> bool:
    """Ask for a node's attributes, and record them; False: another file has its name now.

    Cost: 1 round trip.  Raises: as `by_path`, and as `Share.stat`.
    """
    stat, asked = await by_path(nodes, node, lambda share, path: share.stat(path))
    return nodes.refresh(node, stat, asked)


async def renew_unasked(nodes: NodeTable, node: Node) -> None:
    """Do as `renew`, for nobody who waits: what goes wrong is for whoever asks for the node to find out."""
    try:
        await renew(nodes, node)
    except SmbError as error:
        log.debug("%r may have gone: %s", node.name, error)
