"""The kernel's caches, told what is no longer true: off the event loop's thread, coalesced, bounded.

Telling the kernel may block, on a folder that is just being looked into or a page that waits for our own answer. So a
few threads of our own do it. What is asked for while an earlier notice waits is merged with it, by folder and by
inode: one blocked folder occupies one thread, and holds up nobody else. What does not fit any more is dropped and
counted; the time-outs that the kernel was given bound how long it can be wrong then. What somebody waits for is never
dropped: a server waits for it as well.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pyfuse3
import trio

log = logging.getLogger(__name__)

_MOST_THREADS: Final = 8  # each is held up by one inode at most; they are started when they are needed
_MOST_NOTICES: Final = 65536  # waiting, names and inodes together: a few MiB
_FAREWELL_S: Final = 2.0  # for the threads to come back
# The kernel never heard of it, has forgotten it, or has lost the whole mount: nothing is left to be dropped.
_HARMLESS: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class KernelCacheStatistics:
    """A snapshot of what the kernel was told."""

    waiting: int
    told: int
    dropped: int  # there were too many at once


@dataclass(slots=True)
class _Notice:
    """Everything to be said of one inode: itself, and as a folder of names."""

    names: set[bytes] = field(default_factory=set)
    inode: bool = False
    attr_only: bool = True
    told: list[Callable[[], None]] = field(default_factory=list)  # to be called when all of it was said

    def __len__(self) -> int:
        return len(self.names) + self.inode

    def say_it_was_told(self) -> None:
        """Wake whoever waits for this notice."""
        for wake in self.told:
            wake()


class PageCache:
    """The filesystem's `KernelCache`. `invalidate_…` return at once, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._notices: dict[int, _Notice] = {}  # by inode, in the order of their first request
        self._busy: set[int] = set()  # inodes that a thread is telling the kernel about
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._waiting = 0
        self._told = 0
        self._dropped = 0
        self._closed = False

    def invalidate_inode(self, ino: int, attr_only: bool) -> None:
        """Have the kernel drop the attributes of `ino`, and its pages unless `attr_only`."""
        with self._lock:
            notice = self._notice(ino)
            if notice is not None:
                self._waiting += not notice.inode
                notice.inode = True
                notice.attr_only = notice.attr_only and attr_only

    def invalidate_entry(self, parent_ino: int, name: bytes) -> None:
        """Have the kernel drop the answer it was given for `name` in `parent_ino`."""
        with self._lock:
            notice = self._notice(parent_ino)
            if notice is not None and name not in notice.names:
                self._waiting += 1
                notice.names.add(name)

    async def drop_pages(self, ino: int) -> None:
        """Have the kernel drop the attributes and pages of `ino`; return when it has, or when there is no kernel left.

        It joins a notice that waits, but not one that a thread is busy with: what was read since that began is in the
        pages. Cancelling ends the waiting, not the notice.
        """
        dropped = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def told() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(dropped.set)

        with self._lock:
            notice = self._notice(ino, awaited=True)
            if notice is not None:
                self._waiting += not notice.inode
                notice.inode = True
                notice.attr_only = False
                notice.told.append(told)
        if notice is not None:
            await dropped.wait()

    def statistics(self) -> KernelCacheStatistics:
        """Return a snapshot of the counters."""
        with self._lock:
            return KernelCacheStatistics(self._waiting, self._told, self._dropped)

    def close(self) -> bool:
        """Forget what waits and end the threads; False if one is stuck in the kernel. Blocks for at most 2 s a thread.

        The session must not be destroyed while a thread may still be telling the kernel something.
        """
        with self._work:
            self._closed = True
            unsaid = list(self._notices.values())
            self._notices.clear()
            self._waiting = 0
            self._work.notify_all()
        for notice in unsaid:
            notice.say_it_was_told()
        for thread in self._threads:
            thread.join(_FAREWELL_S)
        return not any(thread.is_alive() for thread in self._threads)

    def _notice(self, ino: int, *, awaited: bool = False) -> _Notice | None:
        """Return where to note something about `ino`, with a thread woken or started for it; None if there is no room.

        There is always room for what is `awaited`: as many as files are open at most.

        Called with the lock held, and so is the caller's change: no thread sees the notice before it is complete.
        """
        if self._closed:
            return None
        if self._waiting >= _MOST_NOTICES and not awaited:
            self._dropped += 1
            return None
        if ino in self._notices:
            return self._notices[ino]
        notice = self._notices[ino] = _Notice()
        if not self._wake() and len(self._threads) < _MOST_THREADS:
            # A daemon thread: one that is stuck in the kernel must not keep the process.
            thread = threading.Thread(target=self._tell_all, name="smbfuse-pages", daemon=True)
            self._threads.append(thread)
            thread.start()
        return notice

    def _wake(self) -> bool:
        """Wake one idle thread, which is idle no longer from now on; False if there is none."""
        if not self._idle:
            return False
        self._idle -= 1
        self._work.notify()
        return True

    def _tell_all(self) -> None:
        while (taken := self._take()) is not None:
            ino, notice = taken
            try:
                self._tell(ino, notice)
            finally:
                with self._work:
                    self._busy.discard(ino)
                    self._told += len(notice)
                    if ino in self._notices:
                        self._wake()  # it was passed over while this thread was busy with it
                notice.say_it_was_told()

    def _take(self) -> tuple[int, _Notice] | None:
        """Wait for a notice about an inode that no other thread is busy with; None at the end."""
        with self._work:
            while not self._closed:
                ino = next((one for one in self._notices if one not in self._busy), None)
                if ino is not None:
                    notice = self._notices.pop(ino)
                    self._busy.add(ino)
                    self._waiting -= len(notice)
                    return ino, notice
                self._idle += 1
                self._work.wait()
            return None

    def _tell(self, ino: int, notice: _Notice) -> None:
        for name in notice.names:
            try:
                pyfuse3.invalidate_entry(ino, name)
            except OSError as error:
                self._report(error, f"name {name!r} of inode {ino}")
        if notice.inode:
            try:
                pyfuse3.invalidate_inode(ino, attr_only=notice.attr_only)
            except OSError as error:
                self._report(error, f"inode {ino}")

    def _report(self, error: OSError, what: str) -> None:
        if error.errno not in _HARMLESS:
            log.info("the kernel did not take a notice about %s: %s", what, error)
