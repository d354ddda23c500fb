"""A child process that outlives a killed smbfuse for a moment, and frees those who wait in its mount.

The kernel ends a mount when the last thread of its process is gone (`fuse_dev_release` in its fs/fuse/dev.c). A thread
of ours that is just telling it of a changed name waits for that folder until whoever looks into it is answered
(`fuse_reverse_inval_entry` in its fs/fuse/dir.c), and no signal reaches it there. So a smbfuse that is killed in such a
moment would stay as a zombie for ever, with everybody who waits in its mount. Writing to the connection's `abort` frees
them, and what is left of it.

What tells is the signal that a child may ask for when the thread that made it ends (PR_SET_PDEATHSIG in prctl(2)): that
is our main thread, whatever becomes of the others. An end of the pipe without it means that nothing is left to free.

The child is a shell, which needs a megabyte; another Python would need forty for each mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1  # prctl(2); it outlasts an exec
_TOLD: Final = signal.SIGUSR1
# What is meant for smbfuse (by a terminal, or a manager of services, which send it to all of its processes) is not for
# the child. POSIX has a `read` end when a signal has a trap. Nothing here is named smbfuse: who kills every smbfuse by
# name does not mean the one that is to clear up behind them.
_PROGRAM: Final = """
trap '' HUP INT QUIT TERM
trap '[ -z "$abort" ] || echo 1 >"$abort"; exit' USR1
echo
read -r abort
read -r end
"""
_SHELL: Final = "/bin/sh"


class Survivor:
    """The child. `with Survivor() as survivor:` around the life of a mount, before there are threads.

    A mount on a system without a shell does without.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None
        try:
            self._child = subprocess.Popen(
                [_SHELL, "-c", _PROGRAM],
                cwd="/",
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_ask_to_be_told,
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.info("nobody clears up behind smbfuse if it is killed: %s", error)
            self._child = None
            return
        assert self._child.stdout is not None
        with self._child.stdout as ready:
            ready.read(1)  # until it hears its signals

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: the mount has ended."""
        if self._child is not None:
            self._child.communicate()

    def is_to_abort(self, path: Path) -> None:
        """Have it write to `path` should we be killed: the mount is there. Called once."""
        if self._child is None or self._child.stdin is None:
            return
        with contextlib.suppress(OSError):  # somebody has killed it: then the mount does without
            self._child.stdin.write(os.fsencode(path) + b"\n")
            self._child.stdin.flush()


def _ask_to_be_told() -> None:
    """Ask for the signal, in the child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(_TOLD), 0, 0, 0)
