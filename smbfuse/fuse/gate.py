"""Who is still let into a mount that is to end, or whose machine is about to sleep; and who is inside.

| | a mount that ends | a machine that is about to sleep, until it is awake again |
|---|---|---|
| what opens something | ESHUTDOWN | EHOSTDOWN; a folder by what is known |
| what changes something | is served | EHOSTDOWN |
| everything else | is served | by what is known; else EHOSTDOWN |
| who waits already | is served | is given some time, then EHOSTDOWN |

ESHUTDOWN, because it says of nobody but the mount that it ends: EHOSTDOWN would blame the server, which programs wait
for, and with ENOTCONN scripts find a mount that is dead and must be cleared away.

Whoever still waits when user space is frozen cannot be frozen himself, and the machine stays awake with its lid closed.
So a sleep leaves nobody waiting. What is being written behind a program's back is not concerned: it goes on.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Final

import trio
from pyfuse3 import FUSEError

log = logging.getLogger(__name__)

OPENS: Final = frozenset({"open", "create", "opendir"})
# A program must know whether a change was made: it is not begun where nobody can wait for the answer. An open may
# empty the file.
CHANGES: Final = frozenset(
    {"setattr", "mknod", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "create", "open", "write"}
    | {"setxattr", "removexattr"}
)


class Gate:
    """Admits the requests of one mount and knows those whose callers wait, by the scopes they run in."""

    def __init__(self) -> None:
        self.may_sleep = False  # somebody will tell before this machine sleeps
        self._inside: set[trio.CancelScope] = set()
        self._refused: Mapping[str, int] = {}  # operation: errno
        self._ends = False
        self._asleep = False
        self._emptied: trio.Event | None = None  # somebody waits for the last one inside

    def __len__(self) -> int:
        return len(self._inside)

    def admit(self, operation: str, patience_s: float) -> trio.CancelScope:
        """Return the scope that a request is to run in; `left` is to follow.  Raises: FUSEError."""
        if self._refused and operation in self._refused:
            raise FUSEError(self._refused[operation])
        scope = trio.CancelScope(deadline=trio.current_time() + patience_s)
        if self._asleep:
            scope.cancel()  # what is known needs no waiting
        self._inside.add(scope)
        return scope

    def left(self, scope: trio.CancelScope) -> None:
        """Hear that a request was answered."""
        self._inside.discard(scope)
        if self._emptied is not None and not self._inside:
            self._emptied.set()

    def close(self) -> None:
        """Let nothing more be opened: the mount is to end."""
        self._ends = True
        self._decide()

    async def sleep(self, deadline: float) -> None:
        """Let nobody wait any more, from now on until `wake`: who is inside is given time until `deadline`."""
        self._asleep = True
        self._decide()
        self._emptied = trio.Event()
        if self._inside:
            with trio.move_on_at(deadline):
                await self._emptied.wait()
        self._emptied = None
        if self._inside:
            log.info("%d requests are answered without the server: the machine is about to sleep", len(self._inside))
        for scope in tuple(self._inside):
            scope.cancel()

    def wake(self) -> None:
        """Let everybody in again."""
        self._asleep = False
        self._decide()

    def _decide(self) -> None:
        sleeping = dict.fromkeys(CHANGES, errno.EHOSTDOWN) if self._asleep else {}
        ending = dict.fromkeys(OPENS, errno.ESHUTDOWN) if self._ends else {}
        self._refused = {**sleeping, **ending}
