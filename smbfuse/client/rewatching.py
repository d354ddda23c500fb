"""Watches that outlive their connection: made again by path, and what was missed is told as "anything"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse.client.evidence import Proof
from smbfuse.client.reopening import Reopening
from smbfuse.client.watching import ANYTHING
from smbfuse.errors import StaleHandle
from smbfuse.share import Notice, Share, Watch

if TYPE_CHECKING:
    from smbfuse.client.reconnect import ReconnectingShare

MOST_RENEWALS: Final = 4  # in a row that have told nothing: a server that closes every such handle is left in peace


class ReconnectingWatch(Reopening):
    """A `Watch` that goes on after a loss, of the connection or of the handle."""

    def __init__(self, share: ReconnectingShare, path: str, watch: Watch, incarnation: int, *, recursive: bool) -> None:
        super().__init__(share, path, None, incarnation)
        self._recursive = recursive
        self._watch = watch
        self._renewals = 0
        self._waiting = trio.CancelScope()

    @property
    def stands(self) -> bool:
        return self._stands() and self._watch.stands

    async def notices(self) -> Sequence[Notice]:
        """Wait for changes; see `Watch.notices`. The wait ends with the tree too, though the connection may stand."""
        while True:
            if notices := await self._share.repeat(self._next):
                return notices

    def lost(self) -> None:
        """Hear that the tree is gone: nothing more will come by it."""
        self._waiting.cancel()

    async def aclose(self) -> None:
        """Have nothing told any more; see `Watch.aclose`."""
        if not self._closed:
            self._closed = True
            self._share.closed(self)
            await self._watch.aclose()

    async def _next(self, share: Share) -> Sequence[Notice]:
        """Return what the watch in force tells, nothing if it has ended; ANYTHING if it had to be made again."""
        if not self._stands():
            await self._renew(share)
            return [ANYTHING]
        with trio.CancelScope() as self._waiting:
            try:
                notices = await self._watch.notices()
            except StaleHandle:
                # The server has closed the folder, by itself or because it is gone: opening it again will tell.
                if self._renewals >= MOST_RENEWALS or self._closed:
                    raise
                self._incarnation = 0
                return ()
            self._renewals = 0
            return notices
        return ()

    async def _renew(self, share: Share) -> None:
        async def attempt(path: str) -> Proof:
            self._watch = await share.watch(path, recursive=self._recursive)
            return Proof.SAME

        self._renewals += 1
        await self._watch.aclose()
        await self._reopen(attempt)
