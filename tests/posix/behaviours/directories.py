"""Folders: mkdir(2), rmdir(2), what is said of them, and paths that begin at one."""

import errno
import os
import shutil
import stat
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused


@behaviour
def mkdir_makes_an_empty_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    assert stat.S_ISDIR((folder / "d").stat().st_mode)
    assert os.listdir(folder / "d") == []
    assert os.listdir(folder) == ["d"]


@behaviour
def mkdir_refuses_an_existing_name(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "f", b"kept")
    for name in "df":
        with refused(errno.EEXIST):
            (folder / name).mkdir()
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def mkdir_in_a_missing_folder_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        (folder / "d" / "e").mkdir()


@behaviour
def mkdir_below_a_file_is_refused(folder: Path) -> None:
    new(folder / "f")
    with refused(errno.ENOTDIR):
        (folder / "f" / "d").mkdir()


@behaviour
def mkdir_respects_mode_and_umask(folder: Path) -> None:
    os.umask(0o027)
    (folder / "d").mkdir(0o777)
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o750


@behaviour
def mkdir_after_rmdir(folder: Path) -> None:
    for _ in range(5):
        (folder / "d").mkdir()
        new(folder / "d" / "f").unlink()
        (folder / "d").rmdir()
        assert os.listdir(folder) == []


@behaviour
def mkdir_where_a_file_was(folder: Path) -> None:
    new(folder / "x").unlink()
    (folder / "x").mkdir()
    assert (folder / "x").is_dir()
    (folder / "x").rmdir()
    new(folder / "x", b"a file again")
    assert (folder / "x").read_bytes() == b"a file again"


@behaviour
def mkdir_twenty_deep(folder: Path) -> None:
    deep = folder.joinpath(*[f"level {number}" for number in range(20)])
    deep.mkdir(parents=True)
    new(deep / "f", b"down here")
    assert (deep / "f").read_bytes() == b"down here"
    assert [len(dirs) + len(files) for _, dirs, files in os.walk(folder)] == [1] * 21


@behaviour
def rmdir_removes_an_empty_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d").rmdir()
    assert os.listdir(folder) == []
    with refused(errno.ENOENT):
        (folder / "d").stat()


@behaviour
def rmdir_of_a_full_folder_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "d" / "f", b"kept")
    with refused(errno.ENOTEMPTY):
        (folder / "d").rmdir()
    assert (folder / "d" / "f").read_bytes() == b"kept"


@behaviour
def rmdir_of_a_missing_folder_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        (folder / "d").rmdir()


@behaviour
def rmdir_of_a_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOTDIR):
        new(folder / "f", b"kept").rmdir()
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def rmdir_of_a_folder_that_is_being_listed(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert os.listdir(fd) == []
        (folder / "d").rmdir()
        assert os.listdir(folder) == []


@behaviour
def rmtree_removes_everything(folder: Path) -> None:
    for path in ("a/b/c", "a/d", "e"):
        (folder / "t" / path).mkdir(parents=True)
        for number in range(10):
            new(folder / "t" / path / f"f{number}", b"x")
    shutil.rmtree(folder / "t")
    assert os.listdir(folder) == []


@behaviour
def copytree_copies_everything(folder: Path) -> None:
    for path in ("a/b", "c"):
        (folder / "t" / path).mkdir(parents=True)
        for number in range(8):
            os.utime(new(folder / "t" / path / f"f{number}", path.encode() * number), (1e9, 1e9 + number))
    shutil.copytree(folder / "t", folder / "u")
    for original in (folder / "t").rglob("*"):
        copy = folder / "u" / original.relative_to(folder / "t")
        assert copy.is_dir() == original.is_dir()
        if original.is_file():
            assert copy.read_bytes() == original.read_bytes()
            assert copy.stat().st_mtime == original.stat().st_mtime


@behaviour
def open_of_a_folder_as_one(folder: Path) -> None:
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        with refused(errno.EISDIR):
            os.read(fd, 10)


@behaviour
def open_of_a_file_as_a_folder_is_refused(folder: Path) -> None:
    with refused(errno.ENOTDIR):
        os.open(new(folder / "f"), os.O_RDONLY | os.O_DIRECTORY)
    with refused(errno.ENOTDIR):
        os.listdir(folder / "f")


@behaviour
def paths_begin_at_an_open_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d", os.O_RDONLY | os.O_DIRECTORY) as at:
        fd = os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=at)
        os.write(fd, b"content")
        os.close(fd)
        assert os.stat("f", dir_fd=at).st_size == 7
        os.rename("f", "g", src_dir_fd=at, dst_dir_fd=at)
        os.mkdir("e", dir_fd=at)
        assert sorted(os.listdir(at)) == ["e", "g"]
        os.unlink("g", dir_fd=at)
        os.rmdir("e", dir_fd=at)
        assert os.listdir(at) == []


@behaviour
def paths_begin_at_an_open_folder_after_its_renaming(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d", os.O_RDONLY | os.O_DIRECTORY) as at:
        (folder / "d").rename(folder / "e")
        os.mkdir("f", dir_fd=at)
    assert os.listdir(folder / "e") == ["f"]


@behaviour
def working_folder_is_one_of_ours(folder: Path) -> None:
    (folder / "d").mkdir()
    os.chdir(folder / "d")
    new(Path("f"), b"content")
    assert Path.cwd().name == "d"
    os.chdir("..")
    assert Path("d/f").read_bytes() == b"content"


@behaviour
def create_in_a_removed_working_folder_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    os.chdir(folder / "d")
    (folder / "d").rmdir()
    with refused(errno.ENOENT):
        os.open("f", os.O_CREAT | os.O_WRONLY)


@behaviour
def listing_tells_kinds(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "f")
    with os.scandir(folder) as entries:
        assert {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries} == {"d": True, "f": False}


@behaviour
def listing_numbers_are_those_of_stat(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "f", b"content")
    with os.scandir(folder) as entries:
        assert all(entry.inode() == os.lstat(entry.path).st_ino for entry in entries)


@behaviour
def dot_names_lead_where_they_should(folder: Path) -> None:
    (folder / "d").mkdir()
    assert os.stat(f"{folder}/d/.").st_ino == (folder / "d").stat().st_ino
    assert os.stat(f"{folder}/d/..").st_ino == folder.stat().st_ino
    with refused(errno.EINVAL, errno.ENOTEMPTY, errno.EBUSY):
        os.rmdir(f"{folder}/d/.")


@behaviour
def fsync_of_a_folder(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
