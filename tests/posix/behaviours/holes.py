"""Holes: what was never written reads as zeros; lseek(2) with SEEK_DATA and SEEK_HOLE; posix_fallocate(3)."""

import errno
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, pattern, refused

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def hole_before_the_first_byte_is_zeros(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.lseek(fd, 10_000, os.SEEK_SET)
        os.write(fd, b"data")
    assert (folder / "f").read_bytes() == bytes(10_000) + b"data"


@behaviour
def hole_between_two_writes_is_zeros(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.pwrite(fd, b"left", 0)
        os.pwrite(fd, b"right", 300_000)
        assert os.pread(fd, 400_000, 0) == b"left" + bytes(299_996) + b"right"
    assert (folder / "f").read_bytes() == b"left" + bytes(299_996) + b"right"


@behaviour
def hole_is_filled_later(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.pwrite(fd, b"end", 100_000)
        os.pwrite(fd, pattern(100_000), 0)
    assert (folder / "f").read_bytes() == pattern(100_000) + b"end"


@behaviour
def hole_after_truncation_is_zeros(folder: Path) -> None:
    new(folder / "f", b"y" * 10_000)
    with opened(folder / "f", os.O_RDWR) as fd:
        os.ftruncate(fd, 10)
        os.pwrite(fd, b"end", 9000)
    assert (folder / "f").read_bytes() == b"y" * 10 + bytes(8990) + b"end"


@behaviour
def seek_beyond_the_end_writes_nothing_by_itself(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_RDWR) as fd:
        assert os.lseek(fd, 1000, os.SEEK_END) == 1007
        assert os.read(fd, 10) == b""
    assert (folder / "f").stat().st_size == 7


@behaviour
def seek_hole_finds_one_at_the_end(folder: Path) -> None:
    new(folder / "f", pattern(50_000))
    with opened(folder / "f", os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 50_000
        assert os.lseek(fd, 100, os.SEEK_DATA) == 100


@behaviour
def seek_data_skips_no_data(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.pwrite(fd, b"data", 1 << 20)
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 1 << 20
        with refused(errno.ENXIO):
            os.lseek(fd, (1 << 20) + 4, os.SEEK_DATA)


@behaviour
def fallocate_makes_room(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"start")
        os.posix_fallocate(fd, 0, 20_000)
        assert os.fstat(fd).st_size == 20_000
        assert os.pread(fd, 20_000, 0) == b"start" + bytes(19_995)
