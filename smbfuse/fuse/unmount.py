"""Undoing a mount by its path, ours or one that a killed process left behind. Needs no FUSE session."""

import ctypes
import errno
import logging
import os
import shutil
import subprocess
from typing import Final

log = logging.getLogger(__name__)

_MNT_DETACH: Final = 2  # umount(2)
_UMOUNT_NOFOLLOW: Final = 8


def unmount(mountpoint: str, *, lazily: bool = True) -> None:
    """Undo the mount at `mountpoint`. Blocks; never raises.

    `lazily`: whoever is inside stays inside, and what is open usable until it is closed; the place is free at once.
    Else nothing happens while anybody is inside, and nothing is said of that.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
        if libc.umount2(os.fsencode(mountpoint), flags) == 0 or (not lazily and ctypes.get_errno() == errno.EBUSY):
            return
        log.debug("umount2 %s: %s", mountpoint, errno.errorcode.get(ctypes.get_errno(), "?"))
    program = shutil.which("fusermount3")
    if program is None:
        log.warning("%s stays mounted: fusermount3 is not installed any more", mountpoint)
        return
    command = [program, "-u", *(["-z"] if lazily else []), "--", mountpoint]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode and lazily:
        log.warning("%s stays mounted: %s", mountpoint, ran.stderr.strip())
