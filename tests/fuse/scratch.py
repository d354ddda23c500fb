"""A filesystem of the tests' own that can be written to: a flat folder in memory, which notes what the kernel asked."""

import collections
import errno
import itertools
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.vfs.posix import ABSENT, Caller, Entry, NewAttributes, Opened, PosixStat

PAUSE_S: Final = 0.002
ATTRIBUTES_S: Final = 60.0  # with less, a kernel that keeps what is written asks for the mode before each write
FIRST_INO: Final = 1000
ROOT: Final = PosixStat(1, stat.S_IFDIR | 0o777, 2, os.getuid(), os.getgid(), 0, 0, 0, 4096, 0, 0, 0)


@dataclass
class Scrap:
    """A file, folder or symlink."""

    ino: int
    mode: int
    content: bytearray = field(default_factory=bytearray)
    uid: int = os.getuid()
    gid: int = os.getgid()
    rdev: int = 0
    links: int = 1
    atime_ns: int = 0
    mtime_ns: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    def stat(self) -> PosixStat:
        return PosixStat(
            self.ino,
            self.mode,
            self.links,
            self.uid,
            self.gid,
            self.rdev,
            len(self.content),
            8,
            4096,
            self.atime_ns,
            self.mtime_ns,
            0,
        )


class Scratch:
    """The writing half of `Filesystem`. A name says how it wants to be answered wrongly."""

    def __init__(self) -> None:
        self.asked: collections.Counter[str] = collections.Counter()
        self.notes: list[object] = []  # what came with the requests, for the test to look at
        self.names: dict[bytes, Scrap] = {}
        self.inodes: dict[int, Scrap] = {}
        self.open_files: dict[int, Scrap] = {}
        self.lookups = 0  # as the kernel counts them, forgets taken off
        self.largest_write = 0
        self._numbers = itertools.count(FIRST_INO)
        self._handles = itertools.count(1)

    def find(self, name: bytes) -> Entry:
        """Look a name up, and count that if it is there."""
        scrap = self.names.get(name)
        return self._made(scrap) if scrap is not None else Entry(ABSENT, 0, 0.0, 0.0)

    def by_number(self, ino: int) -> Entry:
        """Return the entry of what was made here.  Raises: SmbError with ESTALE."""
        return self._entry(self._of(ino))

    async def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Entry, Opened]:
        self._note("create", name.decode(), oct(mode), flags, caller.umask)
        await trio.sleep(PAUSE_S)
        if name == b"wrong type":
            return Entry(ROOT._replace(mode=0o644), 0, 0.0, 0.0), Opened(1, direct_io=False, keep_cache=False)
        scrap = self._make(name, stat.S_IFREG | mode)
        return self._made(scrap), self._open(scrap)

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        self._note("mknod", name.decode(), oct(mode), rdev)
        scrap = self._make(name, mode)
        scrap.rdev = rdev
        return self._made(scrap)

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        self._note("mkdir", name.decode(), oct(mode))
        return self._made(self._make(name, stat.S_IFDIR | mode))

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        self._note("symlink", name.decode(), target.decode())
        scrap = self._make(name, stat.S_IFLNK | 0o777)
        scrap.content[:] = target
        return self._made(scrap)

    async def link(self, ino: int, new_parent: int, new_name: bytes) -> Entry:
        self._note("link", new_name.decode())
        scrap = self.names[new_name] = self._of(ino)
        scrap.links += 1
        return self._made(scrap)

    async def unlink(self, parent: int, name: bytes) -> None:
        self._note("unlink", name.decode())
        if name == b"no such call":
            raise SmbError("a server that knows no such thing", errno=errno.ENOSYS)
        self.names.pop(name).links -= 1

    async def rmdir(self, parent: int, name: bytes) -> None:
        self._note("rmdir", name.decode())
        del self.names[name]

    async def rename(self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._note("rename", old_name.decode(), new_name.decode(), flags)
        if flags & ~1:
            raise SmbError("no exchange", errno=errno.ENOSYS)
        if flags and new_name in self.names:
            raise SmbError("it is there", errno=errno.EEXIST)
        self.names[new_name] = self.names.pop(old_name)

    async def setattr(self, ino: int, new: NewAttributes, fh: int | None) -> Entry:
        self._note("setattr", *new, fh is not None)
        scrap = self._of(ino)
        if new.size is not None:
            del scrap.content[new.size :]
            scrap.content.extend(bytes(new.size - len(scrap.content)))
        if new.mode is not None:
            scrap.mode = stat.S_IFMT(scrap.mode) | new.mode
        scrap.uid = scrap.uid if new.uid is None else new.uid
        scrap.atime_ns = scrap.atime_ns if new.atime_ns is None else new.atime_ns
        scrap.mtime_ns = scrap.mtime_ns if new.mtime_ns is None else new.mtime_ns
        return self._entry(scrap)

    def open_scrap(self, ino: int, flags: int) -> Opened:
        """Open what was made here."""
        self._note("open", flags)
        scrap = self._of(ino)
        if flags & os.O_TRUNC:
            scrap.content.clear()
        return self._open(scrap)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        self.asked["write"] += 1
        await trio.sleep(PAUSE_S)
        scrap = self.open_files[fh]
        if bytes(data[:5]) == b"short":
            return len(data) + 1
        if bytes(data[:4]) == b"full":
            raise SmbError("the disk is full", errno=errno.ENOSPC)
        self.largest_write = max(self.largest_write, len(data))
        scrap.content.extend(bytes(max(0, offset - len(scrap.content))))
        scrap.content[offset : offset + len(data)] = data
        return len(data)

    async def flush(self, fh: int) -> None:
        self._note("flush")
        if fh in self.open_files and self.open_files[fh].content == b"latched":
            raise SmbError("what was written is not there", errno=errno.EDQUOT)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._note("fsync", datasync)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._note("fsyncdir", datasync)

    async def release(self, fh: int) -> None:
        self.asked["release"] += 1
        self.open_files.pop(fh, None)

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        self.asked["getxattr"] += 1
        values = self._of(ino).xattrs
        if name == b"user.huge":
            return bytes(65537)
        if name not in values:
            raise SmbError("no such attribute", errno=errno.ENODATA)
        return values[name]

    async def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        self._note("setxattr", name.decode(), len(value), flags)
        self._of(ino).xattrs[name] = value

    async def listxattr(self, ino: int) -> Sequence[bytes]:
        self.asked["listxattr"] += 1
        return list(self._of(ino).xattrs)

    async def removexattr(self, ino: int, name: bytes) -> None:
        self._note("removexattr", name.decode())
        del self._of(ino).xattrs[name]

    def _note(self, call: str, *what: object) -> None:
        self.asked[call] += 1
        self.notes.append([call, *what])

    def _make(self, name: bytes, mode: int) -> Scrap:
        scrap = self.names.get(name)
        if scrap is None:
            scrap = self.names[name] = Scrap(next(self._numbers), mode)
            self.inodes[scrap.ino] = scrap
        return scrap

    def _open(self, scrap: Scrap) -> Opened:
        fh = next(self._handles)
        self.open_files[fh] = scrap
        return Opened(fh, direct_io=scrap.content.startswith(b"direct"), keep_cache=False)

    def _of(self, ino: int) -> Scrap:
        if ino not in self.inodes:
            raise SmbError("made elsewhere", errno=errno.ESTALE)
        return self.inodes[ino]

    def _made(self, scrap: Scrap) -> Entry:
        self.lookups += 1
        return self._entry(scrap)

    def _entry(self, scrap: Scrap) -> Entry:
        return Entry(scrap.stat(), 0, 0.0, ATTRIBUTES_S)
