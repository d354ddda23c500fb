"""Open files and listings under way of a share over SMB2."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange
from smbfuse.errors import ProtocolError
from smbfuse.share import Caching, DirEntry, FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import decode_page
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.smb2.create import CloseRequest
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryDirectoryRequest, QueryDirectoryResponse
from smbfuse.wire.smb2.io import decode_read, encode_read

if TYPE_CHECKING:
    from smbfuse.client.smb2_share import Smb2Share

PAGE_SIZE: Final = 1 << 20  # of a listing: 8,000 entries, decoded in some 15 ms

_ENTRY_CLASS: Final = FileInformation.ID_BOTH_DIRECTORY
_END: Final = frozenset({NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE})
_DOTS: Final = frozenset({".", ".."})


class Smb2File:
    """One open file. Implements `share.OpenFile`."""

    caching: Final = Caching.NONE

    def __init__(self, share: Smb2Share, file_id: bytes, stat: FileStat, path: str) -> None:
        self.stat = stat
        self.first: memoryview | None = None
        self._share = share
        self._file_id = file_id
        self._path = path
        self._closed = False

    def __repr__(self) -> str:
        return f"<Smb2File {self._path!r} {'closed' if self._closed else self._file_id.hex()}>"

    async def read(self, offset: int, length: int) -> memoryview:
        """Read in one request; see `OpenFile.read`.

        Cost: 1 round trip, a credit for each 64 KiB, no copy. Shorter where the server gives too few credits.
        """
        length = min(length, self._share.largest_read())
        request = Request(Command.READ, encode_read(self._file_id, offset, length), payload=length)
        reply = await self._share.wait(self._share.submit(request, bulk=True))
        return self.data_of(reply, length)

    def data_of(self, reply: Reply, length: int) -> memoryview:
        """Return the data of the reply to a READ of `length` bytes, an empty view at the end of the file."""
        if reply.status == NtStatus.END_OF_FILE:
            return memoryview(b"")
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "READ", self._path)
        data = decode_read(reply.element).toreadonly()
        if len(data) > length:
            raise ProtocolError(f"READ {self._path!r}: {len(data)} bytes, {length} were asked for")
        return data

    async def aclose(self) -> None:
        """Give the handle back; see `OpenFile.aclose`."""
        if not self._closed:
            self._closed = True
            self._share.submit(Request(Command.CLOSE, CloseRequest(0, self._file_id).encode()))


class Smb2Directory:
    """A listing under way. Implements `share.OpenDirectory`.

    While the caller works on one page the next is already asked for: one request ahead, never more.
    """

    def __init__(self, share: Smb2Share, file_id: bytes, stat: FileStat, path: str, replies: Sequence[Reply]) -> None:
        self.stat = stat
        self._share = share
        self._file_id = file_id
        self._path = path
        self._arrived = deque(replies)
        self._ahead: Smb2Exchange | None = None
        self._pages = 0
        self._over = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<Smb2Directory {self._path!r} {self._pages} pages{', over' if self._over else ''}>"

    @staticmethod
    def query(file_id: bytes, size: int) -> Request:
        """Return the request for the next page of `file_id`, of at most `size` bytes."""
        request = QueryDirectoryRequest(
            file_information_class=_ENTRY_CLASS,
            flags=0,
            file_index=0,
            file_id=file_id,
            search_pattern="*",
            output_buffer_length=size,
        )
        return Request(Command.QUERY_DIRECTORY, request.encode(), payload=size)

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
                raise status.error(reply.status, "QUERY_DIRECTORY", self._path)
            if not self._arrived and self._ahead is None and not self._closed:
                self._ahead = self._ask()
            named = decode_page(_ENTRY_CLASS, QueryDirectoryResponse.decode(reply.element).page)
            self._pages += 1
            entries = [filestat.of_entry(entry) for entry in named if entry.file_name not in _DOTS]
            if entries:
                return entries
            if self._pages > 1:  # an empty folder's first page holds the two dots alone
                raise ProtocolError(f"QUERY_DIRECTORY {self._path!r}: a page without a name")
        return ()

    async def aclose(self) -> None:
        """Give the handle back; see `OpenDirectory.aclose`. A page that is still under way is ignored."""
        if not self._closed:
            self._closed = self._over = True
            self._share.submit(Request(Command.CLOSE, CloseRequest(0, self._file_id).encode()))

    async def _next_reply(self) -> Reply:
        exchange = self._ahead or self._ask()
        self._ahead = None
        return await self._share.wait(exchange)

    def _ask(self) -> Smb2Exchange:
        return self._share.submit(self.query(self._file_id, self._share.page_size()))
