"""What is mounted where, from /proc/self/mountinfo: asks the kernel's tables, never a mounted filesystem.

Spec: proc_pid_mountinfo(5).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FUSE_TYPE: Final = "fuse.smbfuse"
AUTOFS_TYPE: Final = "autofs"  # waits for somebody to look inside, to be mounted over then

_MOST_SYMLINKS: Final = 40  # as the kernel follows

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo."""

    device: tuple[int, int]  # major and minor
    mountpoint: str
    filesystem: str  # type, "fuse.smbfuse" for ours
    source: str
    owner: int | None  # FUSE: the uid that mounted it


def mounts() -> list[MountEntry]:
    """Return everything mounted in our namespace, in the order of mounting."""
    return [entry for line in _MOUNTINFO.read_bytes().splitlines() if (entry := parse_line(line)) is not None]


def mounted_at(mountpoint: str) -> MountEntry | None:
    """Return the topmost mount at `mountpoint` (absolute, without symlinks), None if there is none."""
    at = [entry for entry in mounts() if entry.mountpoint == mountpoint]
    return at[-1] if at else None


def resolve(mountpoint: str) -> str:
    """Return a mount point's absolute path with the symlinks of its parents resolved, without touching what is there.

    The last component is only followed if nothing is mounted on it.
    """
    absolute = os.path.abspath(mountpoint)
    parent, name = os.path.split(absolute)
    path = os.path.join(os.path.realpath(parent), name) if name else os.path.realpath(parent)
    return path if mounted_at(path) is not None else os.path.realpath(path)


def containing(path: str) -> tuple[MountEntry, str] | None:
    """Return the mount that a path leads into, and the path below it; None if it leads into none.

    Symlinks on the way are followed, without touching what is mounted by us: there they are the server's to follow.
    """
    ours = {entry.mountpoint: entry for entry in mounts()}
    left = os.path.abspath(path).split("/")[1:]
    at = "/"
    followed = 0
    while left:
        at = os.path.join(at, left.pop(0))
        entry = ours.get(at)
        if entry is not None and entry.filesystem == FUSE_TYPE:
            return entry, "/".join(left)
        if os.path.islink(at) and followed < _MOST_SYMLINKS:
            followed += 1
            left = os.path.normpath(os.path.join(os.path.dirname(at), os.readlink(at))).split("/")[1:] + left
            at = "/"
    return None


def parse_line(line: bytes) -> MountEntry | None:
    """Take one line apart; None if it is not understood."""
    before, separator, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    if not separator or len(fields) < 6 or len(rest) < 3:
        return None
    major, colon, minor = fields[2].partition(b":")
    if not colon or not major.isdigit() or not minor.isdigit():
        return None
    owner = re.search(rb"(?:^|,)user_id=(\d+)", rest[2])
    return MountEntry(
        device=(int(major), int(minor)),
        mountpoint=_text(fields[4]),
        filesystem=_text(rest[0]),
        source=_text(rest[1]),
        owner=int(owner[1]) if owner else None,
    )


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))
