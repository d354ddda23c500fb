"""A filesystem of the tests' own, in a process of its own: python -m tests.fuse.served MOUNTPOINT SOURCE [WORD]….

The words are `rw` (else it is read-only), `xattrs` and `writeback`.

It answers from memory. Some names are traps: what a filesystem with a bug, or fed by a wild server, would return.
Every answer waits `PAUSE_S`, so that callers can be killed while they wait. A heart beats beside it: at the end one
line of JSON says how long the event loop was silent at most, and what the kernel asked.
"""

import json
import logging
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, cast

import trio

from smbfuse.config import Mount
from smbfuse.errors import NotFound, SmbError
from smbfuse.fuse.mount import FuseMount
from smbfuse.share import Space
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import Entry, Listed, Opened, PosixStat
from tests.fuse.scratch import FIRST_INO, PAUSE_S, Scratch
from tests.support.starving import starved_s

HEARTBEAT_S: Final = 0.02
LABOUR_S: Final = 0.004
CONTENT: Final = bytes(range(256)) * 1024
FILE: Final = 2
LINK: Final = 3
BLOCKED: Final = 4

ROOT_STAT: Final = PosixStat(1, stat.S_IFDIR | 0o755, 2, os.getuid(), os.getgid(), 0, 0, 0, 4096, 0, 0, 0)
FILE_STAT: Final = ROOT_STAT._replace(ino=FILE, mode=stat.S_IFREG | 0o644, nlink=1, size=len(CONTENT), blocks=512)
LINK_STAT: Final = ROOT_STAT._replace(ino=LINK, mode=stat.S_IFLNK | 0o777, nlink=1)

# name: what the filesystem returns for it, all of it wrong
TRAPS: Final[dict[bytes, Any]] = {
    b"no type": FILE_STAT._replace(mode=0o644),
    b"negative size": FILE_STAT._replace(size=-1),
    b"huge size": FILE_STAT._replace(size=2**63),
    b"huge time": FILE_STAT._replace(mtime_ns=2**200),
    b"negative owner": FILE_STAT._replace(uid=-1),
    b"huge inode": FILE_STAT._replace(ino=2**64),
    b"text": FILE_STAT._replace(nlink=cast("int", "one")),
}


def entry(status: PosixStat) -> Entry:
    """Return an answer that the kernel is to forget at once."""
    return Entry(status, 0, 0.0, 0.0)


class MemoryFilesystem(Scratch):
    """The calls of `Filesystem`, answered from memory."""

    async def lookup(self, parent: int, name: bytes, renaming: Callable[[], bool]) -> Entry:
        """Find `file`, `link`, and the traps."""
        self.asked["lookup"] += 1
        await trio.sleep(PAUSE_S)
        if name in TRAPS:
            return entry(TRAPS[name])
        match name:
            case b"file" | b"\xff\xfe" | b"0":
                self.lookups += 1
                return entry(FILE_STAT)
            case b"link":
                self.lookups += 1
                return entry(LINK_STAT)
            case b"blocked":
                self.lookups += 1
                return entry(FILE_STAT._replace(ino=BLOCKED))
            case b"nan":
                return Entry(FILE_STAT, 0, math.nan, 0.0)
            case b"bug":
                raise ZeroDivisionError("a bug")
            case b"group":
                raise ExceptionGroup("tasks", [NotFound("gone", status=0xC0000034)])
            case b"wild errno":
                raise SmbError("x", errno=70000)
            case b"no errno":
                raise SmbError("x", errno=0)
            case b"not an entry":
                return cast("Entry", None)
        return self.find(name)

    async def getattr(self, ino: int) -> Entry:
        """Return the attributes of what was looked up."""
        self.asked["getattr"] += 1
        await trio.sleep(PAUSE_S)
        if ino >= FIRST_INO:
            return self.by_number(ino)
        return entry({1: ROOT_STAT, LINK: LINK_STAT}.get(ino, FILE_STAT._replace(ino=ino)))

    async def access(self, ino: int, mode: int, uid: int, gids: Collection[int]) -> bool:
        """Allow everything but the execution of files."""
        return ino == 1 or not mode & os.X_OK

    async def readlink(self, ino: int) -> bytes:
        """Return a target."""
        return b"file"

    async def opendir(self, ino: int) -> int:
        """Open the only folder."""
        return 2**64 - 1

    async def readdir(self, fh: int, cookie: int) -> Sequence[Listed]:
        """List one good name between bad ones."""
        self.asked["readdir"] += 1
        names: list[tuple[bytes, Any]] = [
            (b".", ROOT_STAT),
            (b"..", ROOT_STAT),
            (b"sla/sh", FILE_STAT),
            (b"nul\0l", FILE_STAT),
            (b"", FILE_STAT),
            (b"x" * 256, FILE_STAT),
            (b"file", FILE_STAT),
            (b"\xff\xfe", FILE_STAT),
            *TRAPS.items(),
        ]
        listed = [Listed(name, entry(status), at) for at, (name, status) in enumerate(names, 1)]
        return [*listed, Listed(b"0", entry(FILE_STAT), len(listed) + 1)][cookie:]

    def accepted(self, ino: int) -> None:
        """Count a lookup."""
        self.asked["accepted"] += 1
        self.lookups += 1

    async def releasedir(self, fh: int) -> None:
        """Close the folder."""

    async def open(self, ino: int, flags: int, thread: int = 0) -> Opened:
        """Open a file; one of them never opens."""
        if ino == BLOCKED:
            self.asked["blocked"] += 1
            await trio.sleep_forever()
        if ino >= FIRST_INO:
            return self.open_scrap(ino, flags)
        return Opened(fh=7, direct_io=False, keep_cache=False)

    def at_hand(self, fh: int, offset: int, length: int) -> memoryview | None:
        """Have nothing at hand: each read waits."""
        return None

    async def read(self, fh: int, offset: int, length: int) -> memoryview:
        """Read from memory."""
        self.asked["read"] += 1
        await trio.sleep(PAUSE_S)
        content = CONTENT if fh not in self.open_files else bytes(self.open_files[fh].content)
        return memoryview(content)[offset : offset + length]

    async def statfs(self) -> Space:
        """Return a volume whose figures make no sense."""
        return Space(total=2**80, free=-5, available=1 << 30, block_size=0)

    def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        """Take lookups back."""
        self.lookups -= sum(count for ino, count in inodes if ino != 1)


class Heart:
    """Measures the longest silence of the event loop; what it waited for a core of the machine is not its own."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        last = time.monotonic() - starved_s()
        while True:
            await trio.sleep(HEARTBEAT_S)
            now = time.monotonic() - starved_s()
            self.longest_s = max(self.longest_s, now - last - HEARTBEAT_S)
            last = now


async def labour() -> None:
    """Keep the event loop busy, so that it reads a request a while after it was told of one."""
    while True:
        until = time.monotonic() + LABOUR_S
        while time.monotonic() < until:
            pass
        await trio.sleep(LABOUR_S / 4)


async def serve(arguments: Sequence[str]) -> None:
    """Serve until somebody unmounts, then print what was seen."""
    mountpoint, source, *words = arguments
    filesystem = MemoryFilesystem()
    mount = FuseMount(
        cast("Filesystem", filesystem),
        Mount(mountpoint=mountpoint, read_only="rw" not in words),
        source=source,
        timeo_s=30,
        xattrs="xattrs" in words,
        writeback="writeback" in words,
    )
    heart = Heart()
    mount.attach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heart.beat)
        nursery.start_soon(labour)
        await mount.serve()
        nursery.cancel_scope.cancel()
    mount.close()
    seen = {
        "longest_s": heart.longest_s,
        "asked": dict(filesystem.asked),
        "notes": filesystem.notes,
        "lookups": filesystem.lookups,
        "largest_write": filesystem.largest_write,
        "content": {name.decode(): one.content.hex() for name, one in filesystem.names.items()},
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(serve, sys.argv[1:])
