"""Handles that nobody needs any longer: given back together, or kept for a while because they may be needed again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from smbfuse.share import Features, OpenFile
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.sharedfile import SharedFile

CLOSE_WITHIN_S: Final = 0.01  # files closed one after the other are closed on the server together
EARLY_S: Final = 0.05  # a file's time may be cut by so much, to close it together with those before it
KEPT_MAX: Final = 256  # files that stay open for nobody; the server has a bound too


class Closing:
    """Gives handles back to the server soon: many small files are closed in one message to the socket, not many.

    At once where a handle may stand in others' way: one from OPEN_ANDX of SMB1 forbids deletion.
    """

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._waiting: list[tuple[int, OpenFile]] = []  # with the inode
        self._closing_soon = False

    def close(self, file: SharedFile, server: OpenFile) -> None:
        """Give a handle back. Plain: it happens in a task."""
        self._waiting.append((file.node.ino, server))
        if file.at_once or Features.COMPOUND not in file.share.features:
            self._spawn(self.close_now, file.node.ino)
        elif not self._closing_soon:
            self._closing_soon = True
            self._spawn(self._close_soon)

    async def close_now(self, ino: int) -> None:
        """Give back now what waits of a file: something is to come after its close."""
        now = [server for waiting, server in self._waiting if waiting == ino]
        if now:
            self._waiting[:] = [one for one in self._waiting if one[0] != ino]
            for server in now:
                await server.aclose()

    async def _close_soon(self) -> None:
        await trio.sleep(CLOSE_WITHIN_S)
        self._closing_soon = False
        waiting, self._waiting = self._waiting, []
        for _, server in waiting:
            await server.aclose()


class Kept:
    """Files that stay open on the server for a while after their last close here, by a grant that allows it.

    The while is counted from the first of these closes, however often a file is wanted again, and for one that was
    opened ahead of need from there: as long as a file is open, Samba tells neither the times nor the disappearance that
    programs on the server itself gave it.
    """

    def __init__(self, keep_s: float, expired: Callable[[SharedFile], None], spawn: Spawn) -> None:
        self._keep_s = keep_s
        self._expired = expired
        self._spawn = spawn
        self._until: OrderedDict[SharedFile, float] = OrderedDict()
        self._ticking = False

    def count(self, file: SharedFile) -> float:
        """Count a file's time from now on, unless it is counted already; return when it is over."""
        if file.keep_until is None:
            file.keep_until = trio.current_time() + self._keep_s
        return file.keep_until

    def keep(self, file: SharedFile) -> bool:
        """Keep a file until its time is over; False: it is, or none are kept."""
        if self.count(file) <= trio.current_time():
            return False
        self._until[file] = self.count(file)
        if len(self._until) > KEPT_MAX:
            self._expire(next(iter(self._until)))
        if not self._ticking:
            self._ticking = True
            self._spawn(self._tick)
        return True

    def take(self, file: SharedFile) -> None:
        """Hear that somebody needs the file again, or that it is closed."""
        self._until.pop(file, None)

    def _expire(self, file: SharedFile) -> None:
        del self._until[file]
        self._expired(file)

    async def _tick(self) -> None:
        try:
            while self._until:
                await trio.sleep_until(min(self._until.values()))
                due = trio.current_time() + EARLY_S
                for file in [file for file, until in self._until.items() if until <= due]:
                    self._expire(file)
        finally:
            self._ticking = False
