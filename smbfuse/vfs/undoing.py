"""What a change that failed half-way has taken away, and how it is given back: now, or when the server is back.

A change that needs several requests may lose its connection between two of them, for longer than anybody waits. The
program is told that it has failed, and everything is to be as before: the undoing goes on by itself until it has met
the server, at the end of the mount for the last time.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import ShareSource
from smbfuse.vfs.blocks import Spawn

log = logging.getLogger(__name__)

UNDO_S: Final = 10.0  # longest that the caller of what failed waits for its undoing
LOOK_EVERY_S: Final = 0.2  # whether the server is there again: a look at our own state, no request

Attempt = Callable[[], Awaitable[None]]


class Undoing:
    """Undoes what failed half-way."""

    def __init__(self, source: ShareSource, spawn: Spawn) -> None:
        self._source = source
        self._spawn = spawn
        self._left: dict[Attempt, str] = {}  # what is not undone yet, in words

    async def undo(self, what: str, attempt: Attempt) -> None:
        """Make an attempt now, whoever has given up meanwhile; and again later, if no server answers it in time.

        `attempt` raises ConnectionLost or Timeout if nobody knows, and deals with any other error by itself. Twice must
        be as once. `what` says for the log what there is if it never succeeds.
        """
        with trio.move_on_after(UNDO_S) as patience:
            patience.shield = True
            try:
                await attempt()
            except (ConnectionLost, Timeout) as error:
                log.debug("to be undone later: %s: %s", what, error)
            else:
                return
        self.undo_later(what, attempt)

    def undo_later(self, what: str, attempt: Attempt) -> None:
        """Have attempts made as soon as the server can be reached, until one succeeds."""
        self._left[attempt] = what
        self._spawn(self._undo_when_possible, attempt)

    async def drain(self) -> None:
        """Make one more attempt at everything that is left, at the end of the mount. Raises nothing of the server's."""
        for attempt, what in tuple(self._left.items()):
            try:
                await attempt()
            except SmbError as error:
                log.warning("%s: what has failed half-way could not be undone: %s", what, error)
            self._left.pop(attempt, None)

    async def _undo_when_possible(self, attempt: Attempt) -> None:
        while attempt in self._left:
            if self._source.reachable:
                try:
                    await attempt()
                except (ConnectionLost, Timeout) as error:
                    log.debug("not undone yet: %s: %s", self._left.get(attempt), error)
                else:
                    self._left.pop(attempt, None)
                    return
            await trio.sleep(LOOK_EVERY_S)
