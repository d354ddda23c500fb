"""Watching a folder on one connection, whatever the dialect: a request that stands until something happens.

The server notes changes for an open folder from its first such request on, and keeps what happens between two of them,
as far as its buffer reaches. So the next request leaves as soon as one is answered, and no change is lost; what did not
fit is told as "anything". An answer is taken up at once if it is the first for a moment, else when the moment is over:
so a thousand changes are told in a few messages, our own among them, and a server that always answers at once, whatever
with, is asked ten times a second. Nobody waits for such a request with a deadline, and its silence says nothing about
the server: it is not one of those that `Connection` watches over.

Samba has one process for all watches (notifyd), and answers before that one knows of a new watch: its smbd sends it a
message and does not wait (notify_add in its source3/smbd/notify_msg.c). From then on the names directly in the watched
folder are told by inotify alone, whoever changes them: what smbd says of them is passed by (notifyd_trigger_parser and
inotify_map in source3/smbd). So what happens there before that moment is never told, and nothing says when the moment
has come: a watch is said to stand a little later. Below the watched folder nothing is lost, but only what clients do is
told.  [MS-SMB2] 3.3.5.19, [MS-FSA] 2.1.5.11.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from smbfuse import status
from smbfuse.share import Happened, Notice
from smbfuse.status import NtStatus
from smbfuse.wire.notify import CompletionFilter, FileNotifyInformation, NotifyAction, decode_notifications

if TYPE_CHECKING:
    from smbfuse.engine.credits import Window
    from smbfuse.engine.exchange import Exchange
    from smbfuse.wire.record import Buffer

log = logging.getLogger(__name__)

# All that a mount shows of a file. Not when it was read last: whoever reads would be told of everywhere.
SHOWN: Final = (
    CompletionFilter.FILE_NAME
    | CompletionFilter.DIR_NAME
    | CompletionFilter.ATTRIBUTES
    | CompletionFilter.SIZE
    | CompletionFilter.LAST_WRITE
    | CompletionFilter.CREATION
    | CompletionFilter.EA
    | CompletionFilter.SECURITY
)
SETTLE_S: Final = 0.2  # until Samba's other process knows of a watch: some ms on a machine with nothing to do
GATHER_S: Final = 0.1  # between two answers: nobody notices, and a server gathers less in that time than it keeps
ANYTHING: Final = Notice(Happened.ANYTHING)

_ENDED: Final = frozenset({NtStatus.NOTIFY_CLEANUP, NtStatus.CANCELLED})
_SIMPLE: Final[dict[int, Happened]] = {
    NotifyAction.ADDED: Happened.ADDED,
    NotifyAction.REMOVED: Happened.REMOVED,
    NotifyAction.REMOVED_BY_DELETE: Happened.REMOVED,
    NotifyAction.MODIFIED: Happened.MODIFIED,
}


class WatchedFolder(Protocol):
    """An open folder, and how its dialect asks for what happens in it."""

    path: str

    def ask(self) -> Exchange[Any]:
        """Have the request sent that stands until something happens."""
        ...

    async def heard(self) -> None:
        """Return when the server has taken what was sent so far.  Raises: ConnectionLost, Timeout."""
        ...

    def answer(self, exchange: Exchange[Any]) -> tuple[int, Buffer]:
        """Return the status of an answer, and what it tells.  Raises DecodeError."""
        ...

    def give_back(self, exchange: Exchange[Any]) -> None:
        """Cancel the request that stands, and close the folder. Nobody waits for that."""
        ...


class StandingWatch:
    """A watch that ends with its connection. Implements `share.Watch`. Made by `stand`, for a claim on `window`."""

    def __init__(self, folder: WatchedFolder, window: Window) -> None:
        self._folder = folder
        self._window = window
        self._exchange = folder.ask()
        self._closed = False
        self._taken_at = -math.inf

    def __repr__(self) -> str:
        return f"<StandingWatch {self._folder.path!r}{'' if self.stands else ', over'}>"

    @property
    def stands(self) -> bool:
        exchange = self._exchange
        if self._closed or exchange.error is not None:
            return False
        return not exchange.done or exchange.replies[0].status in (NtStatus.SUCCESS, NtStatus.NOTIFY_ENUM_DIR)

    async def begin(self) -> None:
        """Wait until the server notes changes, as far as that can be known.  Raises: what it refuses that with.

        A success without content at this time tells of no change: the server does not know what it was asked.
        """
        await self._folder.heard()
        exchange = self._exchange
        if exchange.done:
            self._told()
            answered, changes = self._folder.answer(exchange)
            if answered == NtStatus.SUCCESS and not len(changes):
                raise status.error(NtStatus.NOT_SUPPORTED, exchange.label, self._folder.path)
        await trio.sleep(SETTLE_S)

    async def notices(self) -> list[Notice]:
        """Wait for changes; see `Watch.notices`."""
        while True:
            await trio.sleep_until(self._taken_at + GATHER_S)
            await self._answered()
            notices = self._told()
            self._taken_at = trio.current_time()
            if not self._closed:
                self._exchange = self._folder.ask()
            if notices:
                return notices

    async def aclose(self) -> None:
        """Have nothing told any more; see `Watch.aclose`."""
        if not self._closed:
            self._closed = True
            self._folder.give_back(self._exchange)
            self._window.disclaim()

    async def _answered(self) -> None:
        if self._exchange.done:
            await trio.lowlevel.checkpoint()
            return
        answered = trio.Event()
        self._exchange.on_done = answered.set
        await answered.wait()

    def _told(self) -> list[Notice]:
        exchange, path = self._exchange, self._folder.path
        if exchange.error is not None:
            raise exchange.error
        answered, changes = self._folder.answer(exchange)
        if answered == NtStatus.NOTIFY_ENUM_DIR:
            return [ANYTHING]
        if answered in _ENDED:
            raise status.error(NtStatus.FILE_CLOSED, exchange.label, path)
        if answered != NtStatus.SUCCESS:
            raise status.error(answered, exchange.label, path)
        # An answer without content says the same as NOTIFY_ENUM_DIR.  [MS-CIFS] 3.2.5.41.1
        return list(notices_of(decode_notifications(changes))) if len(changes) else [ANYTHING]


def claim(window: Window, path: str) -> None:
    """Claim a place for a request that stands.  Raises: Unsupported if the server allows too few requests at once."""
    if not window.claim():
        log.info("too few requests at once are allowed to watch %r: %s", path, window)
        raise status.error(NtStatus.NOT_SUPPORTED, "CHANGE_NOTIFY", path)


async def stand(folder: WatchedFolder, window: Window) -> StandingWatch:
    """Return the watch of an open folder, for the claim that the caller has made: both are given back if it is refused.

    Cost: 1 round trip.  Raises: what the server refuses it with.
    """
    watch = StandingWatch(folder, window)
    try:
        await watch.begin()
    except BaseException:
        await watch.aclose()
        raise
    return watch


def notices_of(told: Iterable[FileNotifyInformation]) -> Iterator[Notice]:
    """Yield what a server told, in our words: a rename's two names as one, a lone one as what it comes to.

    An action that nobody knows, or a name that can be no path, may mean anything.
    """
    old_path: str | None = None
    for action, name in told:
        path = _path(name)
        if old_path is not None:
            if action == NotifyAction.RENAMED_NEW_NAME and path is not None:
                yield Notice(Happened.RENAMED, path, old_path)
                old_path = None
                continue
            yield Notice(Happened.REMOVED, old_path)
            old_path = None
        if path is None:
            yield ANYTHING
        elif action == NotifyAction.RENAMED_OLD_NAME:
            old_path = path
        elif action == NotifyAction.RENAMED_NEW_NAME:
            yield Notice(Happened.ADDED, path)
        else:
            what = _SIMPLE.get(action)
            yield ANYTHING if what is None else Notice(what, path)
    if old_path is not None:
        yield Notice(Happened.REMOVED, old_path)


def _path(name: str) -> str | None:
    """Return a notification's name as a path of the waist; None if it can be none."""
    path = name.replace("\\", "/")
    return None if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")) else path
