"""Making files: open(2) with O_CREAT and its friends, mknod(2)."""

import errno
import os
import stat
import tempfile
import time
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused


@behaviour
def create_makes_an_empty_file(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY):
        pass
    assert (folder / "f").stat().st_size == 0
    assert (folder / "f").read_bytes() == b""


@behaviour
def created_file_is_listed_at_once(folder: Path) -> None:
    assert os.listdir(folder) == []
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY):
        assert os.listdir(folder) == ["f"]
    assert os.listdir(folder) == ["f"]


@behaviour
def created_file_is_regular_with_one_name(folder: Path) -> None:
    status = new(folder / "f").stat()
    assert stat.S_ISREG(status.st_mode)
    assert status.st_nlink == 1


@behaviour
def created_file_belongs_to_its_maker(folder: Path) -> None:
    assert new(folder / "f").stat().st_uid == os.getuid()


@behaviour
def created_file_has_the_time_of_its_making(folder: Path) -> None:
    before = time.time()
    written = new(folder / "f", b"x").stat().st_mtime
    assert before - 3 <= written <= time.time() + 3


@behaviour
def create_opens_an_existing_file_as_it_is(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as fd:
        assert os.read(fd, 100) == b"content"


@behaviour
def create_and_truncate_empties_an_existing_file(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_CREAT | os.O_TRUNC | os.O_WRONLY) as fd:
        assert os.fstat(fd).st_size == 0
    assert (folder / "f").read_bytes() == b""


@behaviour
def truncating_open_needs_no_create(folder: Path) -> None:
    new(folder / "f", b"content")
    with opened(folder / "f", os.O_TRUNC | os.O_RDWR) as fd:
        assert os.read(fd, 10) == b""


@behaviour
def exclusive_create_makes_a_file(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY) as fd:
        os.write(fd, b"first")
    assert (folder / "f").read_bytes() == b"first"


@behaviour
def exclusive_create_refuses_an_existing_file(folder: Path) -> None:
    new(folder / "f", b"old")
    with refused(errno.EEXIST):
        os.open(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (folder / "f").read_bytes() == b"old"


@behaviour
def exclusive_create_refuses_a_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EEXIST):
        os.open(folder / "d", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@behaviour
def exclusive_create_after_a_look_that_found_nothing(folder: Path) -> None:
    assert not (folder / "f").exists()
    with opened(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY):
        pass
    assert (folder / "f").exists()


@behaviour
def open_without_create_refuses_a_missing_file(folder: Path) -> None:
    with refused(errno.ENOENT):
        os.open(folder / "f", os.O_RDWR)
    assert os.listdir(folder) == []


@behaviour
def create_in_a_missing_folder_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        os.open(folder / "d" / "f", os.O_CREAT | os.O_WRONLY)


@behaviour
def create_below_a_file_is_refused(folder: Path) -> None:
    new(folder / "f")
    with refused(errno.ENOTDIR):
        os.open(folder / "f" / "g", os.O_CREAT | os.O_WRONLY)


@behaviour
def create_where_a_folder_stands_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EISDIR):
        os.open(folder / "d", os.O_CREAT | os.O_WRONLY)


@behaviour
def create_with_a_read_only_mode_can_still_write(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY, 0o444) as fd:
        os.write(fd, b"objects of git are made so")
    assert (folder / "f").read_bytes() == b"objects of git are made so"
    assert not (folder / "f").stat().st_mode & 0o222


@behaviour
def create_respects_mode_and_umask(folder: Path) -> None:
    os.umask(0o027)
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY, 0o666):
        pass
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o640


@behaviour
def create_for_reading_alone(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_RDONLY) as fd:
        assert os.read(fd, 10) == b""
        with refused(errno.EBADF):
            os.write(fd, b"x")


@behaviour
def create_again_after_removal_starts_empty(folder: Path) -> None:
    new(folder / "f", b"old content").unlink()
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as fd:
        assert os.read(fd, 100) == b""


@behaviour
def create_many_files(folder: Path) -> None:
    names = {f"file {number:03}" for number in range(120)}
    for name in names:
        new(folder / name, name.encode())
    assert set(os.listdir(folder)) == names
    assert all((folder / name).read_bytes() == name.encode() for name in sorted(names)[::7])


@behaviour
def mknod_makes_a_regular_file(folder: Path) -> None:
    os.mknod(folder / "f", stat.S_IFREG | 0o644)
    assert stat.S_ISREG((folder / "f").stat().st_mode)
    assert (folder / "f").stat().st_size == 0


@behaviour
def mknod_refuses_an_existing_name(folder: Path) -> None:
    new(folder / "f", b"kept")
    with refused(errno.EEXIST):
        os.mknod(folder / "f", stat.S_IFREG | 0o644)
    assert (folder / "f").read_bytes() == b"kept"


@behaviour
def mkfifo_makes_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert stat.S_ISFIFO((folder / "pipe").lstat().st_mode)
    assert os.listdir(folder) == ["pipe"]


@behaviour
def temporary_files_come_and_go(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"some")
        file.flush()
        assert Path(file.name).read_bytes() == b"some"
    with tempfile.TemporaryFile(dir=folder) as nameless:
        nameless.write(b"more")
        nameless.seek(0)
        assert nameless.read() == b"more"
        assert os.listdir(folder) == []
    assert os.listdir(folder) == []
