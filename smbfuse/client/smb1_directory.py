"""Listings of an SMB1 share: FIND_FIRST2, FIND_NEXT2, and an end that is sure to come.  [MS-CIFS] 3.2.4.27."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import decode_entries, without_id
from smbfuse.errors import DecodeError, ProtocolError
from smbfuse.share import Caching, DirEntry, FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.files import SEARCH_EVERYTHING
from smbfuse.wire.smb1.listing import MOST_ENTRIES
from smbfuse.wire.smb1.trans2 import (
    FindClose2Request,
    FindFirst2Request,
    FindFirst2Response,
    FindFlags,
    FindNext2Request,
    FindNext2Response,
)

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange

log = logging.getLogger(__name__)

_NO_RESUME_KEY: Final = 0
_FIND_FLAGS: Final = int(FindFlags.CLOSE_AT_EOS | FindFlags.RETURN_RESUME_KEYS)


class Smb1Directory:
    """A listing under way. Implements `share.OpenDirectory`; its first page came with `open`.

    SMB1 grants nothing of folders.
    """

    caching: Final = Caching.NONE

    def __init__(self, tree: Smb1Tree, path: str, level: int) -> None:
        self.stat: FileStat | None = None
        self._tree = tree
        self._path = path
        self._level = level
        self._sid = 0
        self._over = True
        self._last_page: tuple[str, ...] = ()
        self._ready: list[DirEntry] = []

    def begin(self, reply: Reply) -> None:
        """Take the successful response of the FIND_FIRST2. Without one, the listing is empty."""
        found = FindFirst2Response.decode(reply.parameters)
        self._sid = found.sid
        self._over = bool(found.end_of_search)
        self._ready = self._take(reply, found.search_count)

    def __repr__(self) -> str:
        return f"<Smb1Directory {self._path!r} sid {self._sid}{' over' if self._over else ''}>"

    @property
    def empty(self) -> bool:
        """True if the folder has nothing that its first page could show, not even itself."""
        return self._over and not self._last_page

    async def page(self) -> Sequence[DirEntry]:
        """Return the next entries; see `OpenDirectory.page`."""
        while True:
            if self._ready:
                ready, self._ready = self._ready, []
                return ready
            if self._over:
                return ()
            self._ready = await self._next()

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break, of which there are none; see `OpenDirectory.acknowledge`."""

    async def aclose(self) -> None:
        """Give the search back, unless it is over: then the server has closed it."""
        if not self._over:
            self._over = True
            self._tree.submit(FindClose2Request(self._sid))

    async def _next(self) -> list[DirEntry]:
        tree = self._tree
        # Servers go on from where they were, or from the name, whichever they understand.
        request = FindNext2Request(
            sid=self._sid,
            search_count=MOST_ENTRIES,
            information_level=self._level,
            resume_key=_NO_RESUME_KEY,
            flags=_FIND_FLAGS | FindFlags.CONTINUE_FROM_LAST,
            file_name=self._last_page[-1],
        )
        reply = await tree.perform_one(
            tree.transact2(request.subcommand, request.encode(tree.strings), max_parameters=FindNext2Response.SIZE)
        )
        if reply.status in (NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE):
            self._over = True
            return []
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "FIND_NEXT2", self._path)
        found = FindNext2Response.decode(reply.parameters)
        self._over = bool(found.end_of_search)
        return self._take(reply, found.search_count)

    def _take(self, reply: Reply, count: int) -> list[DirEntry]:
        """Read a page.  Raises ProtocolError for one that does not lead on: listings have an end."""
        tree = self._tree
        entries = decode_entries(self._level, reply.data, count, tree.strings, tree.zone_minutes)
        names = tuple(entry.name for entry in entries)
        if not self._over and (not names or names == self._last_page):
            raise ProtocolError(f"the listing of {self._path!r} does not come to an end")
        self._last_page = names
        if not tree.gives_ids:
            entries = [entry._replace(stat=without_id(entry.stat)) for entry in entries]
        for entry in entries:
            if entry.name == ".":
                self.stat = entry.stat
        return [entry for entry in entries if entry.name not in (".", "..")]


async def open_directory(tree: Smb1Tree, path: str) -> Smb1Directory:
    """Begin a listing; see `Share.open_directory`.

    Cost: 1 round trip. One more each time that the server turns out not to know a level.
    """
    pattern = tree.wire_path(path).rstrip(tree.separator) + tree.separator + "*"
    while True:
        level = tree.find_ladder.level
        request = FindFirst2Request(
            search_attributes=SEARCH_EVERYTHING,
            search_count=MOST_ENTRIES,
            flags=_FIND_FLAGS,
            information_level=level,
            search_storage_type=0,
            file_name=pattern,
        )
        directory = Smb1Directory(tree, path, level)
        exchange = tree.transact2(
            request.subcommand, request.encode(tree.strings), max_parameters=FindFirst2Response.SIZE
        )
        try:
            reply = await tree.perform_one(exchange)
        except BaseException:
            _close_when_done(tree, exchange)
            raise
        if reply.status in (NtStatus.NO_SUCH_FILE, NtStatus.NO_MORE_FILES):
            return directory  # nothing matched, not even "."
        if reply.status != NtStatus.SUCCESS:
            if not tree.find_ladder.step_down(level, reply.status):
                raise status.error(reply.status, "FIND_FIRST2", path)
            continue
        try:
            directory.begin(reply)
        except ProtocolError as error:
            _close_when_done(tree, exchange)
            # Some servers write a level's entries wrongly, and are better off without it.
            unreadable = isinstance(error, DecodeError)
            if not unreadable or not tree.find_ladder.step_down(level, NtStatus.INVALID_INFO_CLASS):
                raise
            log.info("listings are asked for in level 0x%04X now: %s", tree.find_ladder.level, error)
            continue
        tree.find_ladder.worked(level)
        return directory


def _close_when_done(tree: Smb1Tree, exchange: Smb1Exchange) -> None:
    """Close a search that was begun, or will have begun, for nobody."""

    def close() -> None:
        if exchange.error is not None or exchange.replies[0].status != NtStatus.SUCCESS:
            return
        try:
            found = FindFirst2Response.decode(exchange.replies[0].parameters)
        except DecodeError as error:
            log.debug("a search that nobody wants cannot be closed: %s", error)
            return
        if not found.end_of_search:
            tree.submit(FindClose2Request(found.sid))

    if exchange.done:
        close()
    else:
        exchange.on_done = close
