"""The room on the volume, for `df`: asked for seldom, answered soon."""

from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.share import ShareSource, Space
from smbfuse.vfs.blocks import Spawn

FRESH_S: Final = 2.0  # how long a figure is believed
PATIENCE_S: Final = 0.5  # how long a new figure is waited for when there is an old one
NO_SPACE: Final = Space(total=0, free=0, available=0, block_size=4096)  # of a server none of whose shares is in use


class SpaceCache:
    """The last known room, and the one question under way for whoever asks."""

    def __init__(self, source: ShareSource, spawn: Spawn) -> None:
        self._source = source
        self._spawn = spawn
        self._known: tuple[float, Space] | None = None  # with when it was asked for
        self._error: SmbError = SmbError("the room on the volume is not known")
        self._asking: trio.Event | None = None

    async def get(self) -> Space:
        """Return the room; see `Filesystem.statfs`."""
        if self._known is not None and trio.current_time() < self._known[0] + FRESH_S:
            return self._known[1]
        if self._asking is None:
            self._asking = trio.Event()
            self._spawn(self._ask, self._asking)
        asking = self._asking
        if self._known is None:
            await asking.wait()
        else:
            with trio.move_on_after(PATIENCE_S):
                await asking.wait()
        if self._known is None:
            raise self._error
        return self._known[1]

    async def _ask(self, done: trio.Event) -> None:
        asked_at = trio.current_time()
        try:
            if self._source.whole_server:
                share = next(iter(self._source.connected()), None)
            else:
                share = await self._source.share("")
            self._known = (asked_at, await share.space() if share is not None else NO_SPACE)
        except SmbError as error:
            self._error = error
        finally:
            self._asking = None
            done.set()
