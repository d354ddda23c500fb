"""Many handles, many processes."""

import errno
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused, start_child, wait_for_child

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def hundred_handles_of_one_file(folder: Path) -> None:
    new(folder / "f")
    fds = [os.open(folder / "f", os.O_RDWR) for _ in range(100)]
    for number, fd in enumerate(fds):
        os.pwrite(fd, bytes([number]), number)
    assert os.pread(fds[0], 200, 0) == bytes(range(100))
    for fd in fds:
        os.close(fd)
    assert (folder / "f").read_bytes() == bytes(range(100))


@behaviour
def hundred_files_open_at_once(folder: Path) -> None:
    fds = [os.open(folder / f"f{number}", CREATE) for number in range(100)]
    for number, fd in enumerate(fds):
        os.write(fd, b"%d" % number)
    for number, fd in enumerate(fds):
        assert os.pread(fd, 10, 0) == b"%d" % number
        os.close(fd)
    assert len(os.listdir(folder)) == 100


@behaviour
def handles_have_offsets_of_their_own(folder: Path) -> None:
    with opened(new(folder / "f", b"0123456789"), os.O_RDONLY) as one, opened(folder / "f", os.O_RDONLY) as two:
        assert (os.read(one, 3), os.read(two, 5), os.read(one, 3)) == (b"012", b"01234", b"345")


@behaviour
def duplicates_share_an_offset(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        other = os.dup(fd)
        os.write(fd, b"one ")
        os.write(other, b"two")
        os.close(other)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7
        assert os.pread(fd, 10, 0) == b"one two"


@behaviour
def child_shares_an_offset(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"parent ")
        wait_for_child(start_child(lambda: os.write(fd, b"child ")))
        os.write(fd, b"parent")
    assert (folder / "f").read_bytes() == b"parent child parent"


@behaviour
def close_twice_is_refused(folder: Path) -> None:
    fd = os.open(folder / "f", CREATE)
    os.close(fd)
    with refused(errno.EBADF):
        os.close(fd)


@behaviour
def handle_and_name_tell_the_same(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"content")
        by_handle, by_name = os.fstat(fd), (folder / "f").stat()
        assert by_handle.st_ino == by_name.st_ino
        assert by_handle.st_size == by_name.st_size == 7
        assert by_handle.st_mode == by_name.st_mode


@behaviour
def reader_and_writer_take_turns(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY) as writer, opened(folder / "f", os.O_RDONLY) as reader:
        for number in range(30):
            os.write(writer, b"line %02d\n" % number)
            assert os.read(reader, 100) == b"line %02d\n" % number
        assert os.read(reader, 100) == b""


@behaviour
def one_of_many_wins_an_exclusive_create(folder: Path) -> None:
    def compete(number: int) -> None:
        try:
            fd = os.open(folder / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.close(fd)
        new(folder / f"won by {number}")

    for pid in [start_child(lambda number=number: compete(number)) for number in range(6)]:  # type: ignore[misc]
        wait_for_child(pid)
    assert len(os.listdir(folder)) == 2


@behaviour
def one_of_many_wins_a_mkdir(folder: Path) -> None:
    def compete(number: int) -> None:
        try:
            (folder / "lock").mkdir()
        except FileExistsError:
            return
        new(folder / f"won by {number}")

    for pid in [start_child(lambda number=number: compete(number)) for number in range(6)]:  # type: ignore[misc]
        wait_for_child(pid)
    assert len(os.listdir(folder)) == 2


@behaviour
def processes_work_side_by_side(folder: Path) -> None:
    def work(number: int) -> None:
        own = folder / f"worker {number}"
        own.mkdir()
        for step in range(8):
            new(own / "t", b"%d" % step).rename(own / f"f{step}")
        (own / "f0").unlink()

    for pid in [start_child(lambda number=number: work(number)) for number in range(4)]:  # type: ignore[misc]
        wait_for_child(pid)
    for number in range(4):
        assert sorted(os.listdir(folder / f"worker {number}")) == [f"f{step}" for step in range(1, 8)]


@behaviour
def processes_write_parts_of_one_file(folder: Path) -> None:
    def work(number: int) -> None:
        with opened(folder / "f", os.O_WRONLY) as fd:
            for block in range(number, 40, 4):
                os.pwrite(fd, bytes([number]) * 3000, block * 3000)

    new(folder / "f")
    for pid in [start_child(lambda number=number: work(number)) for number in range(4)]:  # type: ignore[misc]
        wait_for_child(pid)
    expected = b"".join(bytes([block % 4]) * 3000 for block in range(40))
    assert (folder / "f").read_bytes() == expected


@behaviour
def readers_never_see_half_a_replacement(folder: Path) -> None:
    new(folder / "f", b"0" * 5000)

    def read() -> None:
        for _ in range(40):
            try:
                data = (folder / "f").read_bytes()
            except OSError as error:
                # Replaced again and again between its lookup and its open: the kernel tries a second time, no more.
                if error.errno != errno.ESTALE:
                    raise
                continue
            assert len(data) == 5000, len(data)
            assert len(set(data)) == 1

    reader = start_child(read)
    for number in range(15):
        new(folder / "g", b"%d" % (number % 10) * 5000).rename(folder / "f")
    wait_for_child(reader)
