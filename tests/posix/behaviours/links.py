"""Hard links: link(2)."""

import errno
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused


@behaviour
def link_gives_a_second_name(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    assert sorted(os.listdir(folder)) == ["a", "b"]
    assert (folder / "b").read_bytes() == b"content"


@behaviour
def link_counts_names(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    assert ((folder / "a").stat().st_nlink, (folder / "b").stat().st_nlink) == (2, 2)
    (folder / "a").unlink()
    assert (folder / "b").stat().st_nlink == 1


@behaviour
def link_shares_the_number(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    assert (folder / "a").samefile(folder / "b")


@behaviour
def link_shares_what_is_written(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    new(folder / "a", b"changed, and longer")
    assert (folder / "b").read_bytes() == b"changed, and longer"
    assert (folder / "b").stat().st_size == 19


@behaviour
def link_outlasts_the_first_name(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    (folder / "a").unlink()
    assert (folder / "b").read_bytes() == b"content"
    assert os.listdir(folder) == ["b"]


@behaviour
def link_into_another_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    os.link(new(folder / "a", b"content"), folder / "d" / "b")
    assert (folder / "d" / "b").read_bytes() == b"content"


@behaviour
def link_of_an_open_file(folder: Path) -> None:
    with opened(folder / "a", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b"before ")
        os.link(folder / "a", folder / "b")
        os.write(fd, b"after")
    assert (folder / "b").read_bytes() == b"before after"


@behaviour
def link_refuses_an_existing_name(folder: Path) -> None:
    new(folder / "a", b"a")
    new(folder / "b", b"b")
    with refused(errno.EEXIST):
        os.link(folder / "a", folder / "b")
    assert (folder / "b").read_bytes() == b"b"


@behaviour
def link_of_a_missing_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        os.link(folder / "a", folder / "b")


@behaviour
def link_of_a_folder_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EPERM):
        os.link(folder / "d", folder / "e")


@behaviour
def link_to_another_filesystem_is_refused(folder: Path) -> None:
    with refused(errno.EXDEV):
        os.link(new(folder / "a"), f"/dev/shm/link of {os.getpid()}")


@behaviour
def rename_over_another_name_of_the_file_keeps_both(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    (folder / "a").rename(folder / "b")
    assert sorted(os.listdir(folder)) == ["a", "b"]


@behaviour
def rename_replaces_one_of_two_names(folder: Path) -> None:
    os.link(new(folder / "a", b"old"), folder / "b")
    new(folder / "c", b"new").rename(folder / "a")
    assert ((folder / "a").read_bytes(), (folder / "b").read_bytes()) == (b"new", b"old")
    assert (folder / "b").stat().st_nlink == 1
