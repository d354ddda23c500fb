"""The last thing a mount does for its programs: what they wrote goes to the server, or it is said what did not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from smbfuse.errors import UnsavedData
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import Unsaved

log = logging.getLogger(__name__)

# What may wait is bounded to what the server takes in some seconds; the rest is for a server that hesitates. The units
# in systemd/ leave more time than this to a stop.
PATIENCE_S: Final = 60.0


class Saving:
    """Saves within one bound of time, however often it is asked to: programs inside may write until the very end."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope(shield=True)
        self._unsaved: Sequence[Unsaved] = ()

    async def save(self, filesystem: Filesystem) -> None:
        """Write everything out, for as long as there is time; not cancelled with its caller, but by `give_up`."""
        self._begin()
        with self._scope:
            self._unsaved = await filesystem.drain(self._scope.deadline)
        if self._scope.cancelled_caught:
            # No time is left for the server; what is not there is to be known all the same.
            with trio.CancelScope(shield=True):
                self._unsaved = await filesystem.drain(trio.current_time())
        # A scope serves once.
        self._scope = trio.CancelScope(shield=True, deadline=self._scope.deadline)

    def give_up(self) -> None:
        """Wait for the server no longer."""
        self._scope.deadline = min(self._scope.deadline, trio.current_time())

    def settle(self) -> None:
        """Tell the log what is not on the server.  Raises: UnsavedData if there is any."""
        if not self._unsaved:
            return
        for one in self._unsaved:
            log.error(
                "not on the server: file=%r offset=%d length=%d: %s", one.path, one.offset, one.length, one.reason
            )
        files = len({one.path for one in self._unsaved})
        raise UnsavedData(
            f"unmounted with {sum(one.length for one in self._unsaved)} bytes of {files} "
            f"{'file' if files == 1 else 'files'} not on the server; the log names them"
        )

    def _begin(self) -> None:
        if self._scope.deadline == float("inf"):
            self._scope.deadline = trio.current_time() + PATIENCE_S
