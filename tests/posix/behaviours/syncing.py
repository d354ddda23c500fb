"""fsync(2) and its kin."""

import errno
import mmap
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, pattern, refused, sync_filesystem

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def fsync_of_what_was_written(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        for number in range(5):
            os.write(fd, b"%d" % number)
            os.fsync(fd)
    assert (folder / "f").read_bytes() == b"01234"


@behaviour
def fdatasync_of_what_was_written(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, pattern(300_000))
        os.fdatasync(fd)
    assert (folder / "f").read_bytes() == pattern(300_000)


@behaviour
def fsync_of_a_handle_for_reading(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)


@behaviour
def fsync_of_a_closed_handle_is_refused(folder: Path) -> None:
    fd = os.open(folder / "f", CREATE)
    os.close(fd)
    with refused(errno.EBADF):
        os.fsync(fd)


@behaviour
def synchronous_writes(folder: Path) -> None:
    for number, flag in enumerate((os.O_SYNC, os.O_DSYNC)):
        with opened(folder / f"f{number}", CREATE | flag) as fd:
            os.write(fd, b"on the disk")
            os.pwrite(fd, b"ON", 0)
        assert (folder / f"f{number}").read_bytes() == b"ON the disk"


@behaviour
def sync_of_the_whole_filesystem(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"content")
        sync_filesystem(fd)
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def msync_of_a_part(folder: Path) -> None:
    with opened(new(folder / "f", bytes(40_960)), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[8192:8195] = b"abc"
        mapped.flush(8192, 4096)
        os.fsync(fd)
    assert (folder / "f").read_bytes()[8190:8197] == b"\0\0abc\0\0"


@behaviour
def save_as_editors_do(folder: Path) -> None:
    new(folder / "f", b"old")
    with opened(folder / ".f.new", CREATE | os.O_EXCL, 0o600) as fd:
        os.write(fd, b"new")
        os.fchmod(fd, 0o644)
        os.fsync(fd)
    (folder / ".f.new").rename(folder / "f")
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as at:
        os.fsync(at)
    assert (folder / "f").read_bytes() == b"new"
    assert os.listdir(folder) == ["f"]
