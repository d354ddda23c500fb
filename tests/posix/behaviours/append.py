"""O_APPEND: every write goes to the end, wherever that is by then."""

import fcntl
import os
import subprocess
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, pattern, start_child, wait_for_child

APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND


@behaviour
def append_makes_a_file(folder: Path) -> None:
    with opened(folder / "f", APPEND) as fd:
        os.write(fd, b"first")
    assert (folder / "f").read_bytes() == b"first"


@behaviour
def append_goes_to_the_end(folder: Path) -> None:
    new(folder / "f", b"one ")
    for word in (b"two ", b"three"):
        with opened(folder / "f", APPEND) as fd:
            os.write(fd, word)
    assert (folder / "f").read_bytes() == b"one two three"


@behaviour
def append_ignores_where_the_offset_is(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", APPEND) as fd:
        os.lseek(fd, 2, os.SEEK_SET)
        os.write(fd, b"end")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 13
    assert (folder / "f").read_bytes() == b"0123456789end"


@behaviour
def append_follows_what_another_handle_wrote(folder: Path) -> None:
    with opened(folder / "f", APPEND) as one, opened(folder / "f", APPEND) as two:
        for number in range(30):
            os.write(one, b"one%02d\n" % number)
            os.write(two, b"two%02d\n" % number)
    expected = b"".join(b"one%02d\ntwo%02d\n" % (number, number) for number in range(30))
    assert (folder / "f").read_bytes() == expected


@behaviour
def append_follows_a_truncation(folder: Path) -> None:
    with opened(folder / "f", APPEND) as fd:
        os.write(fd, b"0123456789")
        os.truncate(folder / "f", 4)
        os.write(fd, b"abc")
        os.ftruncate(fd, 0)
        os.write(fd, b"new")
    assert (folder / "f").read_bytes() == b"new"


@behaviour
def append_by_four_processes_loses_nothing(folder: Path) -> None:
    def writer(number: int) -> None:
        with opened(folder / "log", APPEND) as fd:
            for line in range(25):
                os.write(fd, b"%d:%02d:%s\n" % (number, line, b"x" * (number * 40)))

    for pid in [start_child(lambda number=number: writer(number)) for number in range(4)]:  # type: ignore[misc]
        wait_for_child(pid)
    lines = (folder / "log").read_bytes().splitlines()
    assert sorted(lines) == sorted(b"%d:%02d:%s" % (n, line, b"x" * (n * 40)) for n in range(4) for line in range(25))


@behaviour
def append_can_read_too(folder: Path) -> None:
    new(folder / "f", b"old ")
    with (folder / "f").open("ab+") as file:
        file.write(b"new")
        file.seek(0)
        assert file.read() == b"old new"


@behaviour
def append_of_large_pieces(folder: Path) -> None:
    data = pattern(1_100_000)
    with opened(folder / "f", APPEND) as fd:
        for at in range(0, len(data), 110_000):
            os.write(fd, data[at : at + 110_000])
    assert (folder / "f").read_bytes() == data


@behaviour
def append_can_be_set_later(folder: Path) -> None:
    new(folder / "f", b"0123456789")
    with opened(folder / "f", os.O_WRONLY) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        os.write(fd, b"end")
    assert (folder / "f").read_bytes() == b"0123456789end"


@behaviour
def append_by_the_shell(folder: Path) -> None:
    subprocess.run(["sh", "-c", "for i in 1 2 3 4 5; do echo line $i >> f; done"], cwd=folder, check=True)
    assert (folder / "f").read_text().splitlines() == [f"line {number}" for number in range(1, 6)]
