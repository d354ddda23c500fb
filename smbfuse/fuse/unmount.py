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


def unmount(mountpoint: str) -> None:
    """Undo the mount at `mountpoint`, lazily: what is open stays usable until it is closed. Blocks; never raises."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
            return
        log.debug("umount2 %s: %s", mountpoint, errno.errorcode.get(ctypes.get_errno(), "?"))
    program = shutil.which("fusermount3")
    if program is None:
        log.warning("%s stays mounted: fusermount3 is not installed any more", mountpoint)
        return
    command = [program, "-u", "-z", "--", mountpoint]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode:
        log.warning("%s stays mounted: %s", mountpoint, ran.stderr.strip())
