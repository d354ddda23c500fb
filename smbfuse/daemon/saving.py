"""The last thing a mount does for its programs: what they wrote goes to the server, or it is said what did not."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import trio

from smbfuse.errors import UnsavedData
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import Unsaved

log = logging.getLogger(__name__)


class Aborted(Exception):
    """A second signal has ended the mount at once."""


class Saving:
    """Saves within one bound of time, however often it is asked to: programs inside may write until the very end."""

    def __init__(self, patience_s: float) -> None:
        self.aborted = False
        self._patience_s = patience_s  # from the first time on
        self._deadline = math.inf
        self._scopes: set[trio.CancelScope] = set()  # of who saves now
        self._unsaved: Sequence[Unsaved] = ()

    async def save(self, filesystem: Filesystem) -> None:
        """Write everything out, for as long as there is time; not cancelled with its caller, but by `abort`."""
        scope = trio.CancelScope(shield=True, deadline=self.begin())
        self._scopes.add(scope)
        with scope:
            self._unsaved = await filesystem.drain(self._deadline)
        self._scopes.discard(scope)
        if scope.cancelled_caught:
            # No time is left for the server; what is not there is to be known all the same.
            with trio.CancelScope(shield=True):
                self._unsaved = await filesystem.drain(trio.current_time())

    def begin(self) -> float:
        """Return until when there is time; it runs from the first time that somebody asks."""
        if self._deadline == math.inf:
            self._deadline = trio.current_time() + self._patience_s
        return self._deadline

    def abort(self) -> None:
        """Wait for the server no longer."""
        self.aborted = True
        self._deadline = min(self._deadline, trio.current_time())
        for scope in self._scopes:
            scope.deadline = self._deadline

    def settle(self) -> None:
        """Tell the log what is not on the server.  Raises: UnsavedData if there is any, Aborted if it was."""
        missing = self._name_unsaved()
        if self.aborted:
            raise Aborted(f"ended at once, by a second signal, with {missing or 'everything on the server'}")
        if missing:
            raise UnsavedData(f"unmounted with {missing}")

    def _name_unsaved(self) -> str:
        """Have the log name each range that is not on the server; return a few words for all of them."""
        if not self._unsaved:
            return ""
        for one in self._unsaved:
            log.error(
                "not on the server: file=%r offset=%d length=%d: %s", one.path, one.offset, one.length, one.reason
            )
        files = len({one.path for one in self._unsaved})
        return (
            f"{sum(one.length for one in self._unsaved)} bytes of {files} {'file' if files == 1 else 'files'} "
            "not on the server; the log names them"
        )
