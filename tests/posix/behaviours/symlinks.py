"""Symbolic links: symlink(2), readlink(2), and who follows them."""

import errno
import os
import stat
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused


@behaviour
def symlink_reads_back(folder: Path) -> None:
    for name, target in {"a": "target", "b": "../up", "c": "Größe [ä] 🐙/ x", "d": "deep/" * 30 + "end"}.items():
        (folder / name).symlink_to(target)
        assert os.readlink(folder / name) == target


@behaviour
def symlink_is_one(folder: Path) -> None:
    (folder / "l").symlink_to("nowhere")
    status = (folder / "l").lstat()
    assert stat.S_ISLNK(status.st_mode)
    assert status.st_size == len("nowhere")


@behaviour
def symlink_is_listed_as_one(folder: Path) -> None:
    (folder / "l").symlink_to("nowhere")
    with os.scandir(folder) as entries:
        assert [(entry.name, entry.is_symlink()) for entry in entries] == [("l", True)]


@behaviour
def symlink_is_followed_by_stat_and_open(folder: Path) -> None:
    new(folder / "f", b"content")
    (folder / "l").symlink_to("f")
    assert (folder / "l").stat().st_size == 7
    assert (folder / "l").read_bytes() == b"content"


@behaviour
def symlink_is_written_through(folder: Path) -> None:
    new(folder / "f", b"content")
    (folder / "l").symlink_to("f")
    new(folder / "l", b"changed")
    assert (folder / "f").read_bytes() == b"changed"
    assert (folder / "l").is_symlink()


@behaviour
def symlink_to_a_folder_is_walked_through(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "l").symlink_to("d")
    new(folder / "l" / "f", b"content")
    assert os.listdir(folder / "l") == ["f"]
    assert (folder / "d" / "f").read_bytes() == b"content"


@behaviour
def symlink_upwards_and_sideways(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    new(folder / "b" / "f", b"content")
    (folder / "a" / "l").symlink_to("../b/f")
    assert (folder / "a" / "l").read_bytes() == b"content"


@behaviour
def symlink_to_nothing_is_not_found(folder: Path) -> None:
    (folder / "l").symlink_to("nowhere")
    with refused(errno.ENOENT):
        (folder / "l").stat()
    with refused(errno.ENOENT):
        os.open(folder / "l", os.O_RDONLY)


@behaviour
def symlink_to_nothing_is_created_through(folder: Path) -> None:
    (folder / "l").symlink_to("f")
    new(folder / "l", b"content")
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def symlink_to_nothing_refuses_exclusive_create(folder: Path) -> None:
    (folder / "l").symlink_to("f")
    with refused(errno.EEXIST):
        os.open(folder / "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert os.listdir(folder) == ["l"]


@behaviour
def symlink_refuses_an_existing_name(folder: Path) -> None:
    new(folder / "f", b"kept")
    with refused(errno.EEXIST):
        (folder / "f").symlink_to("x")
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def symlink_in_a_circle_is_refused(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with refused(errno.ELOOP):
        (folder / "a").stat()


@behaviour
def symlink_is_not_followed_where_it_is_forbidden(folder: Path) -> None:
    new(folder / "f")
    (folder / "l").symlink_to("f")
    with refused(errno.ELOOP):
        os.open(folder / "l", os.O_RDONLY | os.O_NOFOLLOW)


@behaviour
def symlink_is_removed_and_its_target_is_not(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "f", b"content")
    (folder / "l").symlink_to("f")
    (folder / "m").symlink_to("d")
    (folder / "l").unlink()
    with refused(errno.ENOTDIR):
        (folder / "m").rmdir()
    (folder / "m").unlink()
    assert sorted(os.listdir(folder)) == ["d", "f"]
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def symlink_is_renamed_and_its_target_is_not(folder: Path) -> None:
    new(folder / "f", b"content")
    (folder / "l").symlink_to("f")
    (folder / "l").rename(folder / "m")
    assert os.readlink(folder / "m") == "f"
    assert sorted(os.listdir(folder)) == ["f", "m"]


@behaviour
def symlink_is_replaced_by_a_file(folder: Path) -> None:
    new(folder / "f", b"old")
    (folder / "l").symlink_to("f")
    new(folder / "g", b"new").rename(folder / "l")
    assert not (folder / "l").is_symlink()
    assert ((folder / "f").read_bytes(), (folder / "l").read_bytes()) == (b"old", b"new")


@behaviour
def symlink_replaces_a_symlink(folder: Path) -> None:
    (folder / "current").symlink_to("v1")
    (folder / "next").symlink_to("v2")
    (folder / "next").rename(folder / "current")
    assert os.readlink(folder / "current") == "v2"
    assert os.listdir(folder) == ["current"]


@behaviour
def readlink_of_a_file_is_refused(folder: Path) -> None:
    with refused(errno.EINVAL):
        os.readlink(new(folder / "f"))
    with refused(errno.ENOENT):
        os.readlink(folder / "missing")


@behaviour
def nofollow_opens_a_file(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY | os.O_NOFOLLOW) as fd:
        assert os.read(fd, 10) == b"content"
