"""A child process that outlives a killed smbfuse for a moment, and frees those who wait in its mount.

The kernel ends a mount when the last thread of its process is gone (`fuse_dev_release` in its fs/fuse/dev.c). A thread
of ours that is just telling it of a changed name waits for that folder until whoever looks into it is answered
(`fuse_reverse_inval_entry` in its fs/fuse/dir.c), and no signal reaches it there. So a smbfuse that is killed in such a
moment would stay as a zombie for ever, with everybody who waits in its mount. Writing to the connection's `abort` frees
them, and what is left of it.

What tells is the signal that a child may ask for when the thread that made it ends (PR_SET_PDEATHSIG in prctl(2)): that
is our main thread, whatever becomes of the others. An end of the pipe without it means that nothing is left to free.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, NoReturn, Self

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_NAME: Final = 15
_NAME: Final = b"smbfuse-heir"  # not what somebody means who kills every smbfuse; 15 bytes at most
_TOLD: Final = signal.SIGUSR1
# Meant for smbfuse, by a terminal or a manager of services, which send them to all of its processes.
_NOT_FOR_US: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_LONGEST_PATH: Final = 4096
_MOST_DESCRIPTORS: Final = 65536  # that may be open so early


class Survivor:
    """The child. `with Survivor() as survivor:` around the life of a mount, before there are threads."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        ready, unready = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_US)
        self._child = os.fork()
        if not self._child:
            _live(reading)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        os.close(unready)
        os.read(ready, 1)  # nothing: until the child has closed its end
        os.close(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: the mount has ended."""
        os.close(self._writing)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._child, 0)

    def is_to_abort(self, path: Path) -> None:
        """Have it write to `path` should we be killed: the mount is there. Called once."""
        with contextlib.suppress(OSError):  # somebody has killed it: then the mount does without
            os.write(self._writing, os.fsencode(path))


class _Bereft(BaseException):
    """Our parent's main thread has ended."""


def _live(reading: int) -> NoReturn:
    """Wait for one end or the other, in the child. Nothing here may return into the parent's frames."""
    try:
        os.setsid()
        signal.signal(_TOLD, _hear)
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, int(_TOLD), 0, 0, 0)
        os.closerange(0, reading)
        os.closerange(reading + 1, _MOST_DESCRIPTORS)
        _wait(reading)
    finally:
        os._exit(0)


def _wait(reading: int) -> None:
    path = b""
    try:
        while more := os.read(reading, _LONGEST_PATH):
            path += more
    except _Bereft:
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            path += os.read(reading, _LONGEST_PATH)  # it may have been told in the same moment
        if path:
            Path(os.fsdecode(path)).write_text("1\n")


def _hear(number: int, frame: FrameType | None) -> NoReturn:
    raise _Bereft
