"""rename(2) and renameat2(2)."""

import errno
import os
from pathlib import Path

from tests.posix.behaviour import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    behaviour,
    errno_of,
    new,
    opened,
    refused,
    rename_with,
)


@behaviour
def rename_moves_a_file(folder: Path) -> None:
    new(folder / "f", b"content").rename(folder / "g")
    assert os.listdir(folder) == ["g"]
    assert (folder / "g").read_bytes() == b"content"
    with refused(errno.ENOENT):
        (folder / "f").stat()


@behaviour
def rename_into_another_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "f", b"content").rename(folder / "d" / "g")
    assert os.listdir(folder) == ["d"]
    assert os.listdir(folder / "d") == ["g"]
    assert (folder / "d" / "g").read_bytes() == b"content"


@behaviour
def rename_replaces_a_file(folder: Path) -> None:
    new(folder / "old", b"old")
    new(folder / "new", b"new").rename(folder / "old")
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"new"


@behaviour
def rename_replaces_again_and_again(folder: Path) -> None:
    for number in range(10):
        new(folder / ".f.tmp", b"%d" % number * (number + 1)).rename(folder / "f")
        assert (folder / "f").read_bytes() == b"%d" % number * (number + 1)
    assert os.listdir(folder) == ["f"]


@behaviour
def rename_replaces_open_target(folder: Path) -> None:
    new(folder / "old", b"old")
    with opened(folder / "old", os.O_RDONLY) as fd:
        new(folder / "new", b"newer").rename(folder / "old")
        assert os.pread(fd, 100, 0) == b"old"
        assert (folder / "old").read_bytes() == b"newer"
        assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"newer"
    assert os.listdir(folder) == ["old"]


@behaviour
def rename_replaces_target_that_is_being_written(folder: Path) -> None:
    with opened(folder / "old", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"written before")
        new(folder / "new", b"newer").rename(folder / "old")
        os.write(fd, b" and after")
        assert os.pread(fd, 100, 0) == b"written before and after"
    assert (folder / "old").read_bytes() == b"newer"
    assert os.listdir(folder) == ["old"]


@behaviour
def rename_of_an_open_file_keeps_its_handle(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"before ")
        (folder / "f").rename(folder / "g")
        os.write(fd, b"after")
        assert os.pread(fd, 100, 0) == b"before after"
        assert (folder / "g").read_bytes() == b"before after"
        assert (folder / "g").stat().st_size == 12
    assert (folder / "g").read_bytes() == b"before after"
    assert os.listdir(folder) == ["g"]


@behaviour
def rename_of_an_open_file_over_an_open_file(folder: Path) -> None:
    new(folder / "a", b"a")
    new(folder / "b", b"b")
    with opened(folder / "a", os.O_RDWR) as first, opened(folder / "b", os.O_RDWR) as second:
        (folder / "a").rename(folder / "b")
        os.pwrite(first, b"A", 0)
        os.pwrite(second, b"B", 0)
        assert os.pread(first, 10, 0) == b"A"
        assert os.pread(second, 10, 0) == b"B"
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_bytes() == b"A"


@behaviour
def rename_to_itself_changes_nothing(folder: Path) -> None:
    new(folder / "f", b"content")
    (folder / "f").rename(folder / "f")
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def rename_of_a_missing_file_is_refused(folder: Path) -> None:
    new(folder / "g", b"kept")
    with refused(errno.ENOENT):
        (folder / "f").rename(folder / "g")
    assert (folder / "g").read_bytes() == b"kept"


@behaviour
def rename_into_a_missing_folder_is_refused(folder: Path) -> None:
    new(folder / "f", b"kept")
    with refused(errno.ENOENT):
        (folder / "f").rename(folder / "d" / "f")
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def rename_of_a_folder(folder: Path) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    new(folder / "d" / "e" / "f", b"content")
    (folder / "d").rename(folder / "D2")
    assert (folder / "D2" / "e" / "f").read_bytes() == b"content"
    assert os.listdir(folder) == ["D2"]
    with refused(errno.ENOENT):
        (folder / "d" / "e" / "f").stat()


@behaviour
def rename_of_a_folder_with_an_open_file_below(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d" / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"before ")
        (folder / "d").rename(folder / "e")
        os.write(fd, b"after")
        assert (folder / "e" / "f").read_bytes() == b"before after"
    assert (folder / "e" / "f").read_bytes() == b"before after"


@behaviour
def rename_of_a_folder_whose_files_were_just_open(folder: Path) -> None:
    (folder / "d").mkdir()
    for number in range(5):
        new(folder / "d" / f"f{number}", b"content")
    os.listdir(folder / "d")
    (folder / "d").rename(folder / "e")
    assert sorted(os.listdir(folder / "e")) == [f"f{number}" for number in range(5)]


@behaviour
def rename_of_a_folder_over_an_empty_one(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "d" / "f", b"content")
    (folder / "e").mkdir()
    (folder / "d").rename(folder / "e")
    assert os.listdir(folder) == ["e"]
    assert (folder / "e" / "f").read_bytes() == b"content"


@behaviour
def rename_of_a_folder_over_a_full_one_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "e").mkdir()
    new(folder / "e" / "f", b"kept")
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        (folder / "d").rename(folder / "e")
    assert (folder / "e" / "f").read_bytes() == b"kept"


@behaviour
def rename_of_a_file_over_a_folder_is_refused(folder: Path) -> None:
    new(folder / "f", b"kept")
    (folder / "d").mkdir()
    with refused(errno.EISDIR):
        (folder / "f").rename(folder / "d")
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def rename_of_a_folder_over_a_file_is_refused(folder: Path) -> None:
    new(folder / "f", b"kept")
    (folder / "d").mkdir()
    with refused(errno.ENOTDIR):
        (folder / "d").rename(folder / "f")
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def rename_of_a_folder_into_itself_is_refused(folder: Path) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    with refused(errno.EINVAL):
        (folder / "d").rename(folder / "d" / "e" / "f")
    assert (folder / "d" / "e").is_dir()


@behaviour
def rename_changes_the_case_of_a_file(folder: Path) -> None:
    new(folder / "readme", b"content")
    assert (folder / "readme").exists()
    (folder / "readme").rename(folder / "README")
    assert os.listdir(folder) == ["README"]
    assert (folder / "README").read_bytes() == b"content"


@behaviour
def rename_changes_the_case_of_a_folder(folder: Path) -> None:
    (folder / "docs").mkdir()
    new(folder / "docs" / "f", b"content")
    (folder / "docs").rename(folder / "Docs")
    assert os.listdir(folder) == ["Docs"]
    assert (folder / "Docs" / "f").read_bytes() == b"content"


@behaviour
def rename_keeps_number_and_size(folder: Path) -> None:
    before = new(folder / "f", b"content").stat()
    (folder / "f").rename(folder / "g")
    after = (folder / "g").stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


@behaviour
def rename_makes_room_for_a_new_file(folder: Path) -> None:
    new(folder / "f", b"old").rename(folder / "f~")
    new(folder / "f", b"new")
    assert sorted(os.listdir(folder)) == ["f", "f~"]
    assert ((folder / "f").read_bytes(), (folder / "f~").read_bytes()) == (b"new", b"old")


@behaviour
def rename_in_a_circle(folder: Path) -> None:
    for name in "abc":
        new(folder / name, name.encode())
    (folder / "a").rename(folder / "t")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    (folder / "t").rename(folder / "c")
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == {"a": b"b", "b": b"c", "c": b"a"}


@behaviour
def rename_back_and_forth(folder: Path) -> None:
    new(folder / "a", b"content")
    for _ in range(10):
        (folder / "a").rename(folder / "b")
        assert not (folder / "a").exists()
        (folder / "b").rename(folder / "a")
        assert not (folder / "b").exists()
    assert (folder / "a").read_bytes() == b"content"


@behaviour
def rename_without_replacing_moves(folder: Path) -> None:
    new(folder / "f", b"content")
    rename_with(folder / "f", folder / "g", RENAME_NOREPLACE)
    assert os.listdir(folder) == ["g"]


@behaviour
def rename_without_replacing_refuses_an_existing_target(folder: Path) -> None:
    new(folder / "f", b"content")
    new(folder / "g", b"kept")
    with refused(errno.EEXIST):
        rename_with(folder / "f", folder / "g", RENAME_NOREPLACE)
    assert ((folder / "f").read_bytes(), (folder / "g").read_bytes()) == (b"content", b"kept")


@behaviour
def rename_exchanges_or_says_that_it_cannot(folder: Path) -> None:
    new(folder / "f", b"f")
    new(folder / "g", b"g")
    number = errno_of(lambda: rename_with(folder / "f", folder / "g", RENAME_EXCHANGE))
    assert number in (0, errno.EINVAL, errno.ENOSYS)
    expected = (b"f", b"g") if number else (b"g", b"f")
    assert ((folder / "f").read_bytes(), (folder / "g").read_bytes()) == expected


@behaviour
def rename_to_another_filesystem_is_refused(folder: Path) -> None:
    new(folder / "f", b"kept")
    with refused(errno.EXDEV):
        (folder / "f").rename("/proc/f")
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def rename_of_many_files(folder: Path) -> None:
    for number in range(40):
        new(folder / f"IMG_{number:04}.JPG", b"%d" % number)
    for number in range(40):
        (folder / f"IMG_{number:04}.JPG").rename(folder / f"Urlaub {number:04}.jpg")
    assert sorted(os.listdir(folder)) == [f"Urlaub {number:04}.jpg" for number in range(40)]
