"""Listings that outlive their connection: begun again by path, without the names that were given already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smbfuse.client.evidence import Proof
from smbfuse.client.reopening import Reopening
from smbfuse.errors import ProtocolError
from smbfuse.share import Caching, DirEntry, FileStat, GrantHolder, OpenDirectory, Share

if TYPE_CHECKING:
    from smbfuse.client.handles import Holding
    from smbfuse.client.reconnect import ReconnectingShare

MOST_NAMES: Final = 4_000_000  # in one folder; a server that names more never ends


class ReconnectingDirectory(Reopening):
    """An `OpenDirectory` that goes on after a loss: listed again, without the names that were given already."""

    def __init__(
        self,
        share: ReconnectingShare,
        path: str,
        holder: GrantHolder | None,
        directory: OpenDirectory,
        incarnation: int,
        holding: Holding | None,
    ) -> None:
        super().__init__(share, path, holding, incarnation)
        self._holder = holder
        self.stat = directory.stat
        self._directory = directory
        self._given: set[str] = set()
        self._repeated = 0  # names that came again since the listing was last begun

    @property
    def caching(self) -> Caching:
        return self._directory.caching if self._stands() else Caching.NONE

    async def acknowledge(self, remaining: Caching) -> None:
        if self._stands():
            await self._directory.acknowledge(remaining)

    async def page(self) -> Sequence[DirEntry]:
        return await self._share.repeat(self._next_page)

    async def aclose(self) -> None:
        if self._closed:
            return
        stood, self._closed = self._stands(), True
        self._share.closed(self)
        if stood:
            await self._directory.aclose()

    async def _next_page(self, share: Share) -> Sequence[DirEntry]:
        async def attempt(path: str) -> Proof:
            holding = self._share.holding(self._holder)
            directory = await share.open_directory(path, holding)
            if not self._is_same(directory.stat):
                await directory.aclose()
                return Proof.ANOTHER
            self._directory, self.holding = directory, holding
            self._repeated = 0
            return Proof.SAME

        if not self._stands():
            await self._reopen(attempt)
        while entries := await self._directory.page():
            fresh = [entry for entry in entries if entry.name not in self._given]
            self._repeated += len(entries) - len(fresh)
            # A listing that was begun again repeats each name once; one that goes on repeating leads in circles.
            if self._repeated > len(self._given) or len(self._given) > MOST_NAMES:
                raise ProtocolError(f"the listing of {self.path!r} does not come to an end")
            if fresh:
                self._given.update(entry.name for entry in fresh)
                return fresh
        return ()

    def _is_same(self, stat: FileStat | None) -> bool:
        if stat is None or self.stat is None:
            return True
        return (stat.volume_id, stat.file_id) == (self.stat.volume_id, self.stat.file_id)
