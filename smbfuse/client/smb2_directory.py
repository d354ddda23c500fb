"""Listings under way of a share over SMB2."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb2_stat import settled
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange
from smbfuse.errors import ProtocolError, StatusError
from smbfuse.share import Caching, DirEntry, GrantHolder
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileAttributes
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command
from smbfuse.wire.smb2.info import QueryDirectoryRequest, QueryDirectoryResponse

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

_LIST: Final = Access.FILE_LIST_DIRECTORY | Access.FILE_READ_ATTRIBUTES | Access.SYNCHRONIZE
_LEASED: Final = Caching.READ | Caching.HANDLE  # all that a folder's lease may be.  [MS-SMB2] 3.3.5.9.11
_END: Final = frozenset({NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE})


class Smb2Directory:
    """A listing under way. Implements `share.OpenDirectory`.

    While the caller works on one page the next is already asked for: one request ahead, never more.
    """

    def __init__(
        self, tree: Smb2Tree, created: CreateResponse, path: str, pages: Sequence[Reply], holder: GrantHolder | None
    ) -> None:
        self.stat = tree.opened(created)
        self.path = path
        self._tree = tree
        self._file_id = created.file_id
        self._arrived = deque(pages)
        self._ahead: Smb2Exchange | None = None
        self._pages = 0
        self._over = False
        self._closed = False
        tree.grants.delivered(created.file_id)
        self._lease_key = holder.key if holder is not None and self.caching else None
        if self._lease_key is not None:
            tree.folder_leased(path, self._lease_key)

    def __repr__(self) -> str:
        return f"<Smb2Directory {self.path!r} {self._pages} pages{', over' if self._over else ''}>"

    @property
    def caching(self) -> Caching:
        return self._tree.grants.caching(self._file_id)

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break; see `OpenDirectory.acknowledge`."""
        self._tree.grants.acknowledge(self._file_id, remaining)

    async def page(self) -> Sequence[DirEntry]:
        """Return the next entries; see `OpenDirectory.page`.

        Raises: ProtocolError if the server goes on answering without naming anything, so that no listing is endless
        without growing.
        """
        while not self._over:
            reply = self._arrived.popleft() if self._arrived else await self._next_reply()
            if reply.status in _END:
                self._over = True
                break
            if reply.status != NtStatus.SUCCESS:
                raise status.error(reply.status, Command.QUERY_DIRECTORY.name, self.path)
            if not self._arrived and self._ahead is None and not self._closed:
                self._ahead = self._ask()
            entries = self._tree.manner.entries(QueryDirectoryResponse.decode(reply.element).page)
            self._pages += 1
            if entries:
                return await settled(self._tree, self.path, entries)
            if self._pages > 1:  # an empty folder's first page holds the two dots alone
                raise ProtocolError(f"QUERY_DIRECTORY {self.path!r}: a page without a name")
        return ()

    async def aclose(self) -> None:
        """Give the handle back; see `OpenDirectory.aclose`. A page that is still under way is ignored."""
        if not self._closed:
            self._closed = self._over = True
            self._tree.close(self._file_id)
            if self._lease_key is not None:
                self._tree.folder_released(self.path, self._lease_key)

    async def _next_reply(self) -> Reply:
        exchange = self._ahead or self._ask()
        self._ahead = None
        return await self._tree.wait(exchange)

    def _ask(self) -> Smb2Exchange:
        return self._tree.submit(query(self._tree, self._file_id))


async def open_directory(tree: Smb2Tree, path: str, holder: GrantHolder | None) -> Smb2Directory:
    """Begin to list a folder; see `Share.open_directory`.

    Cost: 1 round trip: CREATE and two QUERY_DIRECTORYs, so that a folder of one page is known to be over. One more
    where the server has the holder's key for another path.
    """
    try:
        return await _attempt(tree, path, holder if tree.grants.directories else None)
    except StatusError as error:
        if holder is None or error.status != NtStatus.INVALID_PARAMETER:
            raise
    return await _attempt(tree, path, None)


async def _attempt(tree: Smb2Tree, path: str, holder: GrantHolder | None) -> Smb2Directory:
    asking = tree.grants.ask(tree, path, holder, _LEASED)
    page = query(tree, RELATED_FILE_ID)
    create = tree.create(path, _LIST, CreateOptions.DIRECTORY_FILE, asking=asking)
    created, replies = await tree.opening(path, (create, page, page), asking)
    directory = Smb2Directory(tree, created, path, replies[1:], holder)
    if not created.file_attributes & FileAttributes.DIRECTORY:
        await directory.aclose()
        raise status.error(NtStatus.NOT_A_DIRECTORY, Command.CREATE.name, path)
    return directory


def query(tree: Smb2Tree, file_id: bytes) -> Request:
    """Return the request for the next page of `file_id`."""
    size = tree.page_size()
    request = QueryDirectoryRequest(
        file_information_class=tree.manner.entry_class,
        flags=0,
        file_index=0,
        file_id=file_id,
        search_pattern="*",
        output_buffer_length=size,
    )
    return Request(Command.QUERY_DIRECTORY, request.encode(), payload=size)
