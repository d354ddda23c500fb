"""One connected tree: how its requests are sent, alone and as compounds that cost one round trip.

The compounds are related: CREATE opens, what follows works on "the file just opened", CLOSE ends. If the CREATE is
refused the server answers the rest with errors too, so the CREATE's own is the one that is raised.
[MS-SMB2] 3.2.4.1.4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.smb2_durable import Durability
from smbfuse.client.smb2_grants import lease_of_nobody
from smbfuse.client.smb2_nameless import Nameless
from smbfuse.engine.smb2 import CREDIT_SIZE, Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import DecodeError
from smbfuse.share import FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.create import (
    Access,
    CreateContext,
    CreateOptions,
    CreateResponse,
    Disposition,
    OplockLevel,
)
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.info import InfoType, QueryInfoResponse

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.client.smb2_grants import Asking, Smb2Grants

log = logging.getLogger(__name__)

PAGE_SIZE: Final = 1 << 20  # of a listing: 8,000 entries, decoded in some 15 ms

_READING: Final = (
    Access.FILE_READ_DATA
    | Access.FILE_READ_EA
    | Access.FILE_READ_ATTRIBUTES
    | (Access.READ_CONTROL | Access.SYNCHRONIZE)
)
_DATA_CAME: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})


class Sizes(NamedTuple):
    """What the server and the user allow one request to carry, in bytes."""

    read: int
    write: int
    transact: int


class Smb2Tree:
    """A tree of one connection, for whoever sends requests to it."""

    def __init__(
        self, connection: Connection, engine: Smb2Engine, grants: Smb2Grants, tree: Tree, sizes: Sizes
    ) -> None:
        self.connection = connection
        self.engine = engine
        self.grants = grants
        self.tree = tree
        self.sizes = sizes
        self._folder_keys: dict[str, list[bytes]] = {}  # of the leases that listings hold: one for each, by path
        self.manner = smb2_requests.WINDOWS  # another as soon as the share is found to have the POSIX extensions
        self.nameless = Nameless(self.close)
        self.durability = Durability()  # the share's own as soon as it is mounted
        self.reparse_points: bool | None = None  # whether it keeps any: None until one was seen, made or refused
        self.notifies = True  # changes of folders, as far as it has shown

    def __repr__(self) -> str:
        return f"<Smb2Tree {self.tree.tree_id} on {self.connection!r}>"

    def largest_read(self) -> int:
        """Return how much one READ may ask for now: what the server allows, or less where it gives few credits."""
        return self._fitting(self.sizes.read, at_once=2)

    def largest_write(self) -> int:
        """Return how much one WRITE may carry now; see `largest_read`."""
        return self._fitting(self.sizes.write, at_once=2)

    def page_size(self) -> int:
        """Return how large a page of a listing may be now, so that a compound of two pages fits the window."""
        return self._fitting(min(self.sizes.transact, PAGE_SIZE), at_once=4)

    def _fitting(self, most: int, *, at_once: int) -> int:
        return min(most, CREDIT_SIZE * max(1, self.engine.window.capacity // at_once))

    def create(
        self,
        path: str,
        access: Access,
        options: CreateOptions,
        *,
        disposition: Disposition = Disposition.OPEN,
        attributes: int = 0,
        asking: Asking | None = None,
        contexts: tuple[CreateContext, ...] = smb2_requests.ON_DISK,
        mode: int | None = None,
    ) -> Request:
        """Return a CREATE in this tree and in its manner, that shares everything with others.

        `attributes` and `mode` are those of a file that it makes, `asking` the grant that it asks for. One that may
        change something names the lease on its folder, which then is not broken by what we do ourselves.
        """
        oplock_level = OplockLevel.NONE
        if asking is not None:
            oplock_level = asking.oplock_level
            contexts = (*contexts, *asking.contexts)
        elif (disposition is not Disposition.OPEN or access & ~_READING) and (parent := self.folder_key(path)):
            oplock_level = OplockLevel.LEASE
            contexts = (*contexts, lease_of_nobody(parent))
        return smb2_requests.create(
            path,
            access,
            options,
            disposition=disposition,
            attributes=attributes,
            oplock_level=oplock_level,
            contexts=contexts,
            mode=mode,
            manner=self.manner,
        )

    def folder_key(self, path: str) -> bytes:
        """Return the key of the lease on the folder that `path` is in, b"" if there is none."""
        keys = self._folder_keys.get(path.rpartition("/")[0])
        return keys[-1] if keys else b""

    def folder_leased(self, path: str, key: bytes) -> None:
        """Note that a listing of the folder `path` holds the lease with this key; `folder_released` is to follow."""
        self._folder_keys.setdefault(path, []).append(key)

    def folder_released(self, path: str, key: bytes) -> None:
        """Note that one listing that held a lease is closed; others of the same folder may hold it still."""
        keys = self._folder_keys[path]
        keys.remove(key)
        if not keys:
            del self._folder_keys[path]

    def query(self, file_id: bytes = RELATED_FILE_ID) -> Request:
        """Return the QUERY_INFO whose answer `stat_of` reads."""
        manner = self.manner
        return smb2_requests.query_info(
            InfoType.FILE, manner.information_class, manner.information_size, file_id=file_id
        )

    def stat_of(self, reply: Reply, created: CreateResponse, path: str) -> FileStat:
        """Return what the reply to `query` tells of the file that `created` has opened.

        Raises: what the QUERY_INFO was refused with, DecodeError.
        """
        return self.manner.stat(information(reply, path), created)

    def opened(self, created: CreateResponse) -> FileStat:
        """Return what a CREATE has told of the file that it leaves open; raises DecodeError, and it is closed then."""
        try:
            return self.manner.opened(created)
        except DecodeError:
            self.close(created.file_id)
            raise

    def queue(self, request: Request, *, bulk: bool = False) -> Smb2Exchange:
        """Queue one request of this tree: it leaves when somebody waits for it, or with another."""
        return self.engine.submit((request,), tree=self.tree, bulk=bulk)

    def submit(self, request: Request, *, urgent: bool = False) -> Smb2Exchange:
        """Queue one request of this tree and have it sent; nobody need wait for it."""
        exchange = self.engine.submit((request,), tree=self.tree, urgent=urgent)
        self.connection.post()
        return exchange

    async def wait(self, exchange: Smb2Exchange) -> Reply:
        """Wait for the reply of what `queue` or `submit` gave.  Raises: ConnectionLost, Timeout."""
        (reply,) = await self.connection.perform(exchange)
        return reply

    async def ask(self, request: Request, path: str) -> Reply:
        """Send one request and return its successful reply.  Cost: 1 round trip.  Raises: what it is refused with."""
        return succeeded(await self.wait(self.queue(request)), request.command, path)

    def close(self, file_id: bytes) -> Smb2Exchange:
        """Give a handle back; nobody waits for the answer, that of a durable open apart."""
        self.grants.closed(file_id)
        return self.submit(smb2_requests.close(file_id))

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

    async def opening(
        self, path: str, requests: Sequence[Request], asking: Asking | None = None
    ) -> tuple[CreateResponse, list[Reply]]:
        """Perform a compound that leaves open what its CREATE opens, and see that it is closed if the caller gives up.

        Returns the CREATE's response, and all replies. `asking`: the grant that the CREATE asks for; it hears what
        becomes of it.
        Cost: 1 round trip.  Raises: what the CREATE was refused with.
        """
        replies = await self.replies_to(self.begin_opening(requests, asking), asking)
        return self.created(path, replies, asking), replies

    def begin_opening(self, requests: Sequence[Request], asking: Asking | None) -> Smb2Exchange:
        """Submit what `opening` performs. `replies_to` or `give_up` is to follow."""
        exchange = self.engine.submit(requests, tree=self.tree)
        if asking is not None:
            exchange.on_first_reply = asking.answered
        return exchange

    async def replies_to(self, exchange: Smb2Exchange, asking: Asking | None) -> list[Reply]:
        """Wait for the replies to what `begin_opening` has submitted.  Raises: ConnectionLost, Timeout."""
        try:
            return await self.connection.perform(exchange)
        except BaseException:
            self.give_up(exchange, asking)
            raise

    def created(self, path: str, replies: Sequence[Reply], asking: Asking | None) -> CreateResponse:
        """Return the response to the CREATE, out of the replies.

        Raises: what it was refused with; DecodeError, and what it has opened is closed then.
        """
        succeeded(replies[0], Command.CREATE, path)
        known = asking.created if asking is not None else None
        try:
            return known or CreateResponse.decode(replies[0].element)
        except DecodeError:
            self.close(replies[0].created_file_id())
            raise

    def give_up(self, exchange: Smb2Exchange, asking: Asking | None) -> None:
        """Want no longer what `begin_opening` has submitted: what it opens is closed."""
        if exchange.done:
            self._close_orphan(exchange, asking)
        else:
            exchange.on_done = lambda: self._close_orphan(exchange, asking)

    def _close_orphan(self, exchange: Smb2Exchange, asking: Asking | None) -> None:
        if asking is not None:
            asking.withdrawn()
        if exchange.error is not None or exchange.replies[0].status != NtStatus.SUCCESS:
            return
        try:
            self.close(exchange.replies[0].created_file_id())
        except DecodeError as error:
            log.debug("a handle that nobody wants cannot be closed: %s", error)


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
