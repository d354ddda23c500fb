"""truncate(2) and ftruncate(2): what is cut is gone, what is added is zeros."""

import errno
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, pattern, refused

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def truncate_cuts(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    os.truncate(folder / "f", 4)
    assert (folder / "f").read_bytes() == b"0123"
    assert (folder / "f").stat().st_size == 4


@behaviour
def truncate_adds_zeros(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    os.truncate(folder / "f", 9000)
    assert (folder / "f").read_bytes() == b"0123456789" + bytes(8990)


@behaviour
def truncate_to_the_same_size_keeps_all(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    os.truncate(folder / "f", 10)
    assert (folder / "f").read_bytes() == b"0123456789"


@behaviour
def truncate_to_nothing(folder: Path) -> None:
    new(folder / "f", pattern(100_000))
    os.truncate(folder / "f", 0)
    assert (folder / "f").read_bytes() == b""


@behaviour
def truncate_of_an_open_file_is_seen_by_its_handle(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 100, 0) == b"0123456789"
        os.truncate(folder / "f", 3)
        assert os.pread(fd, 100, 0) == b"012"
        assert os.fstat(fd).st_size == 3


@behaviour
def truncating_open_is_seen_by_other_handles(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_RDONLY) as reader:
        assert os.pread(reader, 100, 0) == b"0123456789"
        with opened(folder / "f", os.O_WRONLY | os.O_TRUNC) as writer:
            assert os.pread(reader, 100, 0) == b""
            os.write(writer, b"new")
        assert os.pread(reader, 100, 0) == b"new"


@behaviour
def ftruncate_cuts_what_was_just_written(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, pattern(50_000))
        os.ftruncate(fd, 20_001)
        assert os.fstat(fd).st_size == 20_001
        assert os.pread(fd, 100_000, 0) == pattern(50_000)[:20_001]
    assert (folder / "f").read_bytes() == pattern(50_000)[:20_001]


@behaviour
def ftruncate_and_growth_show_zeros_not_old_bytes(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"x" * 10_000)
        os.ftruncate(fd, 100)
        os.ftruncate(fd, 10_000)
        assert os.pread(fd, 20_000, 0) == b"x" * 100 + bytes(9900)
    assert (folder / "f").read_bytes() == b"x" * 100 + bytes(9900)


@behaviour
def ftruncate_does_not_move_the_offset(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"0123456789")
        os.ftruncate(fd, 2)
        os.write(fd, b"end")
    assert (folder / "f").read_bytes() == b"01" + bytes(8) + b"end"


@behaviour
def ftruncate_at_every_odd_place(folder: Path) -> None:
    data = pattern(140_000)
    new(folder / "f", data)
    with opened(folder / "f", os.O_RDWR) as fd:
        for size in (139_999, 131_073, 131_072, 131_071, 65_537, 65_536, 4097, 4096, 4095, 1):
            os.ftruncate(fd, size)
            assert os.pread(fd, 200_000, max(0, size - 50)) == data[max(0, size - 50) : size]


@behaviour
def ftruncate_through_one_handle_is_seen_by_the_other(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_RDWR) as one, opened(folder / "f", os.O_RDWR) as two:
        os.pwrite(one, b"abc", 7)
        os.ftruncate(two, 8)
        assert os.pread(one, 100, 0) == b"0123456a"
        os.pwrite(one, b"Z", 9)
        assert os.pread(two, 100, 0) == b"0123456a\0Z"


@behaviour
def ftruncate_of_a_handle_for_reading_is_refused(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_RDONLY) as fd, refused(errno.EINVAL, errno.EBADF):
        os.ftruncate(fd, 0)
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def truncate_of_a_missing_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        os.truncate(folder / "f", 0)


@behaviour
def truncate_of_a_folder_is_refused(folder: Path) -> None:
    with refused(errno.EISDIR):
        os.truncate(folder, 0)


@behaviour
def truncate_to_less_than_nothing_is_refused(folder: Path) -> None:
    new(folder / "f", b"content")
    with refused(errno.EINVAL):
        os.truncate(folder / "f", -1)


@behaviour
def truncate_beyond_4_gib(folder: Path) -> None:
    new(folder / "f", b"start")
    os.truncate(folder / "f", (5 << 30) + 3)
    assert (folder / "f").stat().st_size == (5 << 30) + 3
    with opened(folder / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 10, 5 << 30) == bytes(3)
    os.truncate(folder / "f", 5)
    assert (folder / "f").read_bytes() == b"start"


@behaviour
def truncate_moves_the_time_of_writing(folder: Path) -> None:
    new(folder / "f", b"content")
    os.utime(folder / "f", (1_000_000_000, 1_000_000_000))
    os.truncate(folder / "f", 3)
    assert (folder / "f").stat().st_mtime > 1_500_000_000


@behaviour
def truncate_by_name_while_a_writer_has_it_open(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"x" * 5000)
        os.truncate(folder / "f", 10)
        os.pwrite(fd, b"y", 20)
        assert os.fstat(fd).st_size == 21
    assert (folder / "f").read_bytes() == b"x" * 10 + bytes(10) + b"y"
