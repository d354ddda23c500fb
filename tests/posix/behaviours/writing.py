"""Bytes written are the bytes read, whoever reads, wherever they were put."""

import errno
import os
import random
from pathlib import Path

from tests.posix.behaviour import behaviour, in_child, new, opened, pattern, refused

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def write_is_read_back(folder: Path) -> None:
    new(folder / "f", b"Gr\xc3\xb6\xc3\x9fe\0\n")
    assert (folder / "f").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe\0\n"


@behaviour
def write_returns_how_much(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        assert os.write(fd, b"12345") == 5
        assert os.write(fd, pattern(300_001)) == 300_001


@behaviour
def write_of_nothing_changes_nothing(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_WRONLY) as fd:
        assert os.write(fd, b"") == 0
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def write_in_single_bytes(folder: Path) -> None:
    data = pattern(200)
    with opened(folder / "f", CREATE) as fd:
        for at in range(len(data)):
            os.write(fd, data[at : at + 1])
    assert (folder / "f").read_bytes() == data


@behaviour
def write_of_megabytes(folder: Path) -> None:
    data = pattern(5_000_017)
    new(folder / "f", data)
    assert (folder / "f").stat().st_size == len(data)
    assert (folder / "f").read_bytes() == data


@behaviour
def write_across_block_borders(folder: Path) -> None:
    expected = bytearray(1 << 20)
    with opened(folder / "f", CREATE) as fd:
        os.ftruncate(fd, len(expected))
        for number, border in enumerate((4096, 16384, 65536, 131072, 262144, 524288)):
            piece = pattern(999, number)
            os.pwrite(fd, piece, border - 500)
            expected[border - 500 : border + 499] = piece
    assert (folder / "f").read_bytes() == expected


@behaviour
def write_in_the_middle_keeps_the_rest(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_WRONLY) as fd:
        os.lseek(fd, 3, os.SEEK_SET)
        os.write(fd, b"abc")
    assert (folder / "f").read_bytes() == b"012abc6789"


@behaviour
def write_over_the_end_extends(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"abcdef", 8)
    assert (folder / "f").read_bytes() == b"01234567abcdef"


@behaviour
def write_backwards_block_by_block(folder: Path) -> None:
    data = pattern(40 * 4096)
    with opened(folder / "f", CREATE) as fd:
        for at in reversed(range(0, len(data), 4096)):
            os.pwrite(fd, data[at : at + 4096], at)
    assert (folder / "f").read_bytes() == data


@behaviour
def write_at_random_places(folder: Path) -> None:
    chance, expected = random.Random(3), bytearray()
    with opened(folder / "f", CREATE) as fd:
        for number in range(150):
            at, length = chance.randrange(300_000), chance.choice((1, 100, 4096, 70_000))
            piece = pattern(length, number)
            expected.extend(bytes(max(0, at - len(expected))))
            expected[at : at + length] = piece
            os.pwrite(fd, piece, at)
            if number % 10 == 0:
                assert os.pread(fd, 8192, at) == expected[at : at + 8192]
        assert os.pread(fd, len(expected) + 1, 0) == expected
    assert (folder / "f").read_bytes() == expected


@behaviour
def write_gathers_several_buffers(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        assert os.writev(fd, [b"one", b"", b"two", bytes(5000)]) == 5006
        assert os.pwritev(fd, [b"T", b"W"], 3) == 2
    assert (folder / "f").read_bytes() == b"oneTWo" + bytes(5000)


@behaviour
def pwrite_does_not_move_the_offset(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"abc")
        os.pwrite(fd, b"Z", 10)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 3
        os.write(fd, b"d")
    assert (folder / "f").read_bytes() == b"abcd" + bytes(6) + b"Z"


@behaviour
def pread_sees_what_the_same_handle_wrote(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        for number in range(20):
            os.pwrite(fd, bytes([number]) * 1000, number * 700)
            assert os.pread(fd, 1000, number * 700) == bytes([number]) * 1000
            assert os.pread(fd, 2000, number * 700 + 999) == bytes([number])


@behaviour
def write_is_seen_by_another_handle_at_once(folder: Path) -> None:
    new(folder / "f", b"before")
    with opened(folder / "f", os.O_RDONLY) as reader, opened(folder / "f", os.O_WRONLY) as writer:
        assert os.pread(reader, 100, 0) == b"before"
        os.pwrite(writer, b"after!", 0)
        assert os.pread(reader, 100, 0) == b"after!"
        os.pwrite(writer, b" and more", 6)
        assert os.pread(reader, 100, 0) == b"after! and more"


@behaviour
def write_is_seen_by_another_process_before_close(folder: Path) -> None:
    def look() -> None:
        assert (folder / "f").read_bytes() == b"not closed yet"

    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"not closed yet")
        in_child(look)


@behaviour
def two_writers_of_one_file_keep_each_others_bytes(folder: Path) -> None:
    with opened(folder / "f", CREATE) as one, opened(folder / "f", CREATE) as two:
        for at in range(0, 64_000, 2000):
            os.pwrite(one, b"1" * 1000, at)
            os.pwrite(two, b"2" * 1000, at + 1000)
    assert (folder / "f").read_bytes() == (b"1" * 1000 + b"2" * 1000) * 32


@behaviour
def size_is_known_at_once_by_handle_and_by_name(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        for size in (1, 1000, 4096, 100_000):
            os.pwrite(fd, b"x", size - 1)
            assert os.fstat(fd).st_size == size
            assert (folder / "f").stat().st_size == size
            assert os.lseek(fd, 0, os.SEEK_END) == size


@behaviour
def size_is_listed_at_once(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, bytes(12345))
        with os.scandir(folder) as entries:
            assert [entry.stat().st_size for entry in entries] == [12345]


@behaviour
def saved_file_can_be_saved_again(folder: Path) -> None:
    for number in range(10):
        new(folder / "f", b"x" * (50 - number * 5))
        assert (folder / "f").read_bytes() == b"x" * (50 - number * 5)


@behaviour
def offset_can_lie_beyond_4_gib(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.pwrite(fd, b"far away", (1 << 32) + 7)
        assert os.fstat(fd).st_size == (1 << 32) + 15
        assert os.pread(fd, 100, (1 << 32) + 3) == bytes(4) + b"far away"
        assert os.pread(fd, 4, 0) == bytes(4)


@behaviour
def copy_file_range_copies(folder: Path) -> None:
    data = pattern(150_000)
    new(folder / "from", data)
    with opened(folder / "from", os.O_RDONLY) as source, opened(folder / "to", CREATE) as target:
        copied = 0
        while count := os.copy_file_range(source, target, len(data)):
            copied += count
    assert copied == len(data)
    assert (folder / "to").read_bytes() == data


@behaviour
def sendfile_copies(folder: Path) -> None:
    data = pattern(150_000)
    new(folder / "from", data)
    with opened(folder / "from", os.O_RDONLY) as source, opened(folder / "to", CREATE) as target:
        sent = 0
        while count := os.sendfile(target, source, sent, len(data)):
            sent += count
    assert (folder / "to").read_bytes() == data


@behaviour
def write_to_a_handle_for_reading_is_refused(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_RDONLY) as fd, refused(errno.EBADF):
        os.write(fd, b"x")
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def read_from_a_handle_for_writing_is_refused(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_WRONLY) as fd, refused(errno.EBADF):
        os.read(fd, 1)


@behaviour
def write_only_handle_writes_less_than_a_page(folder: Path) -> None:
    data = bytearray(pattern(20_000))
    new(folder / "f", bytes(data))
    with opened(folder / "f", os.O_WRONLY) as fd:
        for at in (1, 4095, 8191, 19_998):
            os.pwrite(fd, b"##", at)
            data[at : at + 2] = b"##"
    assert (folder / "f").read_bytes() == data


@behaviour
def open_for_writing_of_a_folder_is_refused(folder: Path) -> None:
    with refused(errno.EISDIR):
        os.open(folder, os.O_WRONLY)
