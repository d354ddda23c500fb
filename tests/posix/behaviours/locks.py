"""Locks between processes of this machine: fcntl(2) and flock(2)."""

import errno
import fcntl
import os
import struct
from pathlib import Path

from tests.posix.behaviour import behaviour, in_child, new, opened, refused


def locked_for_others(path: Path, start: int = 0, length: int = 0) -> bool:
    """Tell whether another process can take no write lock on a range."""

    def attempt() -> None:
        with opened(path, os.O_RDWR) as fd:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)

    pid = os.fork()
    if pid == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(1 if error.errno in (errno.EAGAIN, errno.EACCES) else 2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1)
    return code == 1


@behaviour
def lock_keeps_others_out(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert locked_for_others(folder / "f")
        fcntl.lockf(fd, fcntl.LOCK_UN)
        assert not locked_for_others(folder / "f")


@behaviour
def lock_of_a_range_leaves_the_rest(folder: Path) -> None:
    with opened(new(folder / "f", bytes(100)), os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
        assert locked_for_others(folder / "f", 25, 1)
        assert not locked_for_others(folder / "f", 0, 20)
        assert not locked_for_others(folder / "f", 30, 10)
        assert locked_for_others(folder / "f")


@behaviour
def lock_ends_with_its_handle(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not locked_for_others(folder / "f")


@behaviour
def lock_ends_with_its_process(folder: Path) -> None:
    new(folder / "f")

    def lock_and_die() -> None:
        fcntl.lockf(os.open(folder / "f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(lock_and_die)
    assert not locked_for_others(folder / "f")


@behaviour
def lock_tells_who_holds_it(folder: Path) -> None:
    new(folder / "f")
    parent = os.getpid()

    def ask() -> None:
        with opened(folder / "f", os.O_RDWR) as other:
            told = fcntl.fcntl(other, fcntl.F_GETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            kind, _, _, _, pid = struct.unpack("hhqqi", told)
            assert (kind, pid) == (fcntl.F_WRLCK, parent)

    with opened(folder / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        in_child(ask)


@behaviour
def lock_for_reading_is_shared(folder: Path) -> None:
    def share() -> None:
        with opened(folder / "f", os.O_RDONLY) as other:
            fcntl.lockf(other, fcntl.LOCK_SH | fcntl.LOCK_NB)

    with opened(new(folder / "f"), os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        in_child(share)
        assert locked_for_others(folder / "f")


@behaviour
def flock_keeps_others_out(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDWR) as one, opened(folder / "f", os.O_RDWR) as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@behaviour
def locked_file_is_written_by_its_owner(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(fd, b"CONTENT", 0)
        assert os.pread(fd, 10, 0) == b"CONTENT"
    assert (folder / "f").read_bytes() == b"CONTENT"
