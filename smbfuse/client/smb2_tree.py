"""One connected tree: how its requests are sent, alone and as compounds that cost one round trip.

The compounds are related: CREATE opens, what follows works on "the file just opened", CLOSE ends. If the CREATE is
refused the server answers the rest with errors too, so the CREATE's own is the one that is raised.
[MS-SMB2] 3.2.4.1.4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.engine.smb2 import CREDIT_SIZE, Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import DecodeError
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.create import CreateResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryInfoResponse

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.client.smb2_grants import Asking, Smb2Grants

log = logging.getLogger(__name__)

_DATA_CAME: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})


class Smb2Tree:
    """A tree of one connection, for whoever sends requests to it."""

    def __init__(self, connection: Connection, engine: Smb2Engine, grants: Smb2Grants, tree: Tree) -> None:
        self.connection = connection
        self.engine = engine
        self.grants = grants
        self.tree = tree

    def __repr__(self) -> str:
        return f"<Smb2Tree {self.tree.tree_id} on {self.connection!r}>"

    def fitting(self, most: int, *, at_once: int) -> int:
        """Return how many bytes a request may carry now, at most `most`, so that `at_once` of them fit the window."""
        return min(most, CREDIT_SIZE * max(1, self.engine.window.capacity // at_once))

    def submit(self, request: Request, *, bulk: bool = False) -> Smb2Exchange:
        """Queue one request of this tree and have it sent; nobody need wait for it."""
        exchange = self.engine.submit((request,), tree=self.tree, bulk=bulk)
        self.connection.post()
        return exchange

    async def wait(self, exchange: Smb2Exchange) -> Reply:
        """Wait for the reply of what `submit` gave.  Raises: ConnectionLost, Timeout."""
        (reply,) = await self.connection.perform(exchange)
        return reply

    async def ask(self, request: Request, path: str) -> Reply:
        """Send one request and return its successful reply.  Cost: 1 round trip.  Raises: what it is refused with."""
        return succeeded(await self.wait(self.submit(request)), request.command, path)

    def close(self, file_id: bytes) -> None:
        """Give a handle back; nobody waits for the answer."""
        self.grants.closed(file_id)
        self.submit(smb2_requests.close(file_id))

    async def compound(self, path: str, *requests: Request) -> list[Reply]:
        """Perform a compound that ends with the CLOSE of what its CREATE opens; return a reply for each request.

        Only the CREATE's status has been looked at: the others' are the caller's (`succeeded`).
        Cost: 1 round trip.  Raises: what the CREATE was refused with.
        """
        replies = await self.connection.perform(self.engine.submit(requests, tree=self.tree))
        succeeded(replies[0], Command.CREATE, path)
        if replies[-1].status != NtStatus.SUCCESS:
            # A server that does not go on behind a request that failed has left the file open.
            self.submit(smb2_requests.close(replies[0].created_file_id()))
        return replies

    async def opening(self, path: str, requests: Sequence[Request], asking: Asking | None = None) -> list[Reply]:
        """Perform a compound that leaves open what its CREATE opens; if the caller does not wait, close it all the same.

        `asking`: the grant that the CREATE asks for; it hears what becomes of it.
        Cost: 1 round trip.  Raises: what the CREATE was refused with.
        """
        exchange = self.engine.submit(requests, tree=self.tree)
        if asking is not None:
            exchange.on_first_reply = asking.answered
        try:
            replies = await self.connection.perform(exchange)
        except BaseException:
            if exchange.done:
                self._close_orphan(exchange, asking)
            else:
                exchange.on_done = lambda: self._close_orphan(exchange, asking)
            raise
        succeeded(replies[0], Command.CREATE, path)
        return replies

    def _close_orphan(self, exchange: Smb2Exchange, asking: Asking | None) -> None:
        if asking is not None:
            asking.withdrawn()
        if exchange.error is not None or exchange.replies[0].status != NtStatus.SUCCESS:
            return
        try:
            created = CreateResponse.decode(exchange.replies[0].element)
        except DecodeError as error:
            log.debug("a handle that nobody wants cannot be closed: %s", error)
            return
        self.close(created.file_id)


def succeeded(reply: Reply, command: Command, path: str) -> Reply:
    """Return `reply` if its status is SUCCESS.  Raises: what the request was refused with."""
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, command.name, path)
    return reply


def information(reply: Reply, path: str) -> bytes:
    """Return the structure in the reply to a QUERY_INFO, cut off if it was too large for us.  Raises: the refusal."""
    if reply.status not in _DATA_CAME:
        raise status.error(reply.status, Command.QUERY_INFO.name, path)
    return QueryInfoResponse.decode(reply.element).data
