"""What can be known before anything is mounted: is there FUSE, and may this user mount there?

Each check asks the system, says what is wrong in one sentence, and never touches a mounted filesystem: a dead one would
hold us up with it.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import shown
from smbfuse.config import Mount
from smbfuse.fuse import mountinfo
from smbfuse.fuse.mountinfo import AUTOFS_TYPE, FUSE_TYPE, MountEntry
from smbfuse.fuse.unmount import unmount

DEVICE: Final = Path("/dev/fuse")
FUSE_CONFIGURATION: Final = Path("/etc/fuse.conf")

_PATIENCE_S: Final = 3.0  # for a mount of ours that may be alive


def check_fuse() -> None:
    """Raise CannotMount unless FUSE is there for this user."""
    if not DEVICE.exists():
        raise CannotMount(
            Exit.NO_FUSE_DEVICE,
            f"{DEVICE} is missing: load the module with `modprobe fuse`, or give the container --device {DEVICE}",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise CannotMount(Exit.NO_FUSE_DEVICE, f"{DEVICE} may not be opened by you; its mode is usually 0666")
    # Root mounts by itself, but a stale mount is cleared and a later one undone through fusermount3 as well.
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise CannotMount(
            Exit.NO_FUSERMOUNT,
            "fusermount3 is not installed or not on PATH: install the package fuse3 of your distribution",
        )


def check_allow_other(options: Mount, configuration: Path = FUSE_CONFIGURATION) -> None:
    """Raise CannotMount if this user may not let others in."""
    if not options.allow_other or os.geteuid() == 0:
        return
    try:
        lines = configuration.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in [line.strip() for line in lines]:
        raise CannotMount(
            Exit.ALLOW_OTHER_FORBIDDEN,
            f"allow_other is for root only, unless {configuration} has a line user_allow_other; "
            "have it added, or leave out allow_other",
        )


def check_mountpoint(options: Mount) -> Sequence[str]:
    """Raise CannotMount unless `options.mountpoint` (absolute, resolved) can be mounted on.

    A mount that a killed smbfuse left behind is cleared. Returns what was done, in sentences for the user.
    """
    done = []
    path = options.mountpoint
    entry = mountinfo.mounted_at(path)
    # Who waits for a mount on demand waits for us: looking inside might make us wait for ourselves.
    on_demand = entry is not None and entry.filesystem == AUTOFS_TYPE
    if entry is not None and not on_demand:
        _clear_stale(path, entry)
        done.append(f"cleared {shown(path)}, which a smbfuse that was killed had left behind")
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        raise CannotMount(
            Exit.MOUNTPOINT_MISSING, f"mount point {shown(path)} does not exist; make it with mkdir"
        ) from None
    except OSError as error:
        raise CannotMount(
            Exit.MOUNTPOINT_NOT_OURS, f"mount point {shown(path)} cannot be reached: {error.strerror}"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise CannotMount(Exit.MOUNTPOINT_NOT_A_FOLDER, f"mount point {shown(path)} is not a folder")
    _check_ours(path, status)
    if not options.nonempty and not on_demand and _has_entries(path):
        raise CannotMount(
            Exit.MOUNTPOINT_NOT_EMPTY,
            f"mount point {shown(path)} is not empty; choose another, or give -o nonempty to hide what is in it",
        )
    return done


def _check_ours(path: str, status: os.stat_result) -> None:
    """Hold a user to fusermount3's rule: one's own folder, or one that one may write to without a sticky bit."""
    uid = os.geteuid()
    if uid == 0:
        return
    sticky = status.st_mode & stat.S_ISVTX and status.st_uid != uid
    if sticky or not os.access(path, os.W_OK | os.X_OK):
        raise CannotMount(
            Exit.MOUNTPOINT_NOT_OURS,
            f"mount point {shown(path)} is not yours to mount on: you must own it, or be allowed to write to it",
        )


def _has_entries(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return False  # written to by us but not read: fusermount3 does not mind


def _clear_stale(path: str, entry: MountEntry) -> None:
    """Unmount what a killed smbfuse of ours left; raise CannotMount if something is alive there."""
    if entry.filesystem != FUSE_TYPE:
        raise CannotMount(
            Exit.MOUNTPOINT_BUSY,
            f"{shown(path)} is already a mount point, of {shown(entry.source)} ({entry.filesystem})",
        )
    if _stat_errno(path) != errno.ENOTCONN:
        raise CannotMount(
            Exit.MOUNTPOINT_BUSY,
            f"{shown(entry.source)} is already mounted on {shown(path)}; undo it with fusermount3 -u {shown(path)}",
        )
    if os.geteuid() not in (0, entry.owner):
        raise CannotMount(
            Exit.MOUNTPOINT_NOT_OURS,
            f"{shown(path)} is held by a dead mount of another user, who or root must undo it with fusermount3 -u",
        )
    unmount(path)
    if mountinfo.mounted_at(path) == entry:
        raise CannotMount(
            Exit.MOUNTPOINT_BUSY, f"{shown(path)} is held by a dead mount that cannot be undone; try umount -l as root"
        )


def _stat_errno(path: str) -> int:
    """Return the errno of stat(path), 0 if it succeeds, EBUSY if it takes too long.

    A child asks, because a mount that hangs would take us with it.
    """
    child = os.fork()
    if child == 0:
        try:
            os.stat(path)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or errno.EIO)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) & 0xFF
        time.sleep(0.01)
    return errno.EBUSY
