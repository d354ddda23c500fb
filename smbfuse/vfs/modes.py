"""Owners, modes and times: from what the server says to what stat(2) shows, and who may do what."""

import stat as posix
from collections.abc import Collection
from typing import Final

from smbfuse.config import View
from smbfuse.share import SETTABLE, Attributes, FileStat, Kind
from smbfuse.vfs.posix import PosixStat

FILE_TYPES: Final = {
    Kind.FILE: posix.S_IFREG,
    Kind.DIRECTORY: posix.S_IFDIR,
    Kind.SYMLINK: posix.S_IFLNK,
    Kind.FIFO: posix.S_IFIFO,
    Kind.SOCKET: posix.S_IFSOCK,
    Kind.BLOCK_DEVICE: posix.S_IFBLK,
    Kind.CHARACTER_DEVICE: posix.S_IFCHR,
}
READONLY: Final = int(Attributes.READONLY)  # plain numbers: this runs for every entry of every listing
SPARSE: Final = int(Attributes.SPARSE)
WRITE_BITS: Final = 0o222
EXECUTE_BITS: Final = 0o111


def settable(attributes: int) -> int:
    """Return what to set so that a file has these DOS attributes, as far as they can be set.

    NORMAL stands for none of them: 0 would change nothing.  [MS-FSCC] 2.6
    """
    return int(attributes & SETTABLE or Attributes.NORMAL)


class Appearance:
    """How files look on this side, as `uid=`, `file_mode=` and their like ask for."""

    def __init__(self, view: View) -> None:
        self._view = view

    def posix(self, ino: int, stat: FileStat) -> PosixStat:
        """Return what stat(2) shows of a file. A time that the server does not give is replaced by the next best."""
        view = self._view
        written = stat.written_ns
        if written is None:
            written = stat.created_ns or 0 if stat.changed_ns is None else stat.changed_ns
        return PosixStat(
            ino=ino,
            mode=FILE_TYPES[stat.kind] | self._permissions(stat),
            nlink=_links(stat),
            uid=view.uid if stat.uid is None or view.force_uid else stat.uid,
            gid=view.gid if stat.gid is None or view.force_gid else stat.gid,
            rdev=_device_number(*stat.device) if stat.device else 0,
            size=stat.size,
            blocks=_blocks(stat),
            blksize=view.block_size,
            atime_ns=written if stat.accessed_ns is None else stat.accessed_ns,
            mtime_ns=written,
            ctime_ns=written if stat.changed_ns is None else stat.changed_ns,
        )

    def _permissions(self, stat: FileStat) -> int:
        if stat.mode is not None:
            return stat.mode & 0o7777
        if stat.kind is Kind.SYMLINK:
            return 0o777
        if stat.kind is Kind.DIRECTORY:
            # On a folder the attribute does not forbid writing: Windows marks customised folders with it.
            return self._view.dir_mode
        if stat.attributes & READONLY:
            return self._view.file_mode & ~WRITE_BITS
        return self._view.file_mode


def is_protected(stat: FileStat) -> bool:
    """Tell whether a file is read-only to everybody: by its attribute, or a mode without any write bit."""
    return bool(stat.attributes & READONLY) or (stat.mode is not None and not stat.mode & WRITE_BITS)


def allowed(stat: PosixStat, mode: int, uid: int, gids: Collection[int]) -> bool:
    """Tell whether access(2) with `mode` (R_OK 4, W_OK 2, X_OK 1; F_OK 0) succeeds by what `stat` shows."""
    if uid == 0:
        # Root reads and writes everything, and runs what anybody may run.
        return not mode & 1 or posix.S_ISDIR(stat.mode) or bool(stat.mode & EXECUTE_BITS)
    if uid == stat.uid:
        bits = stat.mode >> 6
    elif stat.gid in gids:
        bits = stat.mode >> 3
    else:
        bits = stat.mode
    return mode & ~bits & 0o7 == 0


def _links(stat: FileStat) -> int:
    if stat.kind is Kind.DIRECTORY and stat.mode is None:
        # Windows counts no subfolders: 1 tells tree walkers that the number of links says nothing about them.
        return 1
    return stat.links or 1


def _blocks(stat: FileStat) -> int:
    # "No blocks" means "one big hole" to archivers: believed only of a file that the server calls sparse.
    if stat.allocation == 0 and stat.size and not stat.attributes & SPARSE:
        return -(-stat.size // 512)
    return -(-stat.allocation // 512)


def _device_number(major: int, minor: int) -> int:
    """Pack a device number as the kernel's new_encode_dev does, which is what FUSE carries (32 bits)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12
