"""Permissions and owners: chmod(2), chown(2), access(2), and what a read-only file forbids and does not forbid."""

import errno
import os
import stat
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@behaviour
def chmod_keeps_every_bit(folder: Path) -> None:
    new(folder / "f")
    for mode in (0o600, 0o644, 0o755, 0o700, 0o640):
        (folder / "f").chmod(mode)
        assert mode_of(folder / "f") == mode


@behaviour
def chmod_of_a_folder_keeps_every_bit(folder: Path) -> None:
    (folder / "d").mkdir()
    for mode in (0o700, 0o755, 0o770):
        (folder / "d").chmod(mode)
        assert mode_of(folder / "d") == mode


@behaviour
def chmod_by_handle(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_RDWR, 0o644) as fd:
        os.fchmod(fd, 0o444)
        assert not os.fstat(fd).st_mode & 0o222
        os.write(fd, b"an open handle keeps its rights")
    assert (folder / "f").read_bytes() == b"an open handle keeps its rights"


@behaviour
def chmod_shows_that_nobody_may_write(folder: Path) -> None:
    new(folder / "f").chmod(0o444)
    assert not mode_of(folder / "f") & 0o222
    (folder / "f").chmod(0o644)
    assert mode_of(folder / "f") & 0o200


@behaviour
def chmod_to_what_it_is_succeeds(folder: Path) -> None:
    new(folder / "f")
    (folder / "f").chmod(mode_of(folder / "f"))
    folder.chmod(mode_of(folder))


@behaviour
def chmod_of_a_missing_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        (folder / "f").chmod(0o644)


@behaviour
def read_only_file_cannot_be_opened_for_writing(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    with refused(errno.EACCES):
        os.open(folder / "f", os.O_WRONLY)
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def read_only_file_cannot_be_truncated(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    with refused(errno.EACCES):
        os.truncate(folder / "f", 0)
    with refused(errno.EACCES):
        os.open(folder / "f", os.O_WRONLY | os.O_TRUNC)
    assert (folder / "f").read_bytes() == b"content"


@behaviour
def read_only_file_can_be_made_writable_again(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    (folder / "f").chmod(0o644)
    new(folder / "f", b"changed")
    assert (folder / "f").read_bytes() == b"changed"


@behaviour
def read_only_file_can_be_removed(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    (folder / "f").unlink()
    assert os.listdir(folder) == []


@behaviour
def read_only_file_can_be_renamed(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    (folder / "f").rename(folder / "g")
    assert (folder / "g").read_bytes() == b"content"
    assert not mode_of(folder / "g") & 0o222


@behaviour
def read_only_file_can_be_replaced(folder: Path) -> None:
    new(folder / "f", b"old").chmod(0o444)
    new(folder / "g", b"new").rename(folder / "f")
    assert (folder / "f").read_bytes() == b"new"
    assert os.listdir(folder) == ["f"]


@behaviour
def read_only_file_can_be_given_times(folder: Path) -> None:
    new(folder / "f", b"content").chmod(0o444)
    os.utime(folder / "f", ns=(1_234_567_890_000_000_000,) * 2)
    assert (folder / "f").stat().st_mtime_ns == 1_234_567_890_000_000_000
    assert not mode_of(folder / "f") & 0o222


@behaviour
def handle_outlasts_its_file_becoming_read_only(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"before ")
        (folder / "f").chmod(0o444)
        os.write(fd, b"after")
        os.fsync(fd)
    assert (folder / "f").read_bytes() == b"before after"


@behaviour
def read_only_folder_takes_no_new_file(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d").chmod(0o555)
    try:
        with refused(errno.EACCES):
            new(folder / "d" / "f")
    finally:
        (folder / "d").chmod(0o755)


@behaviour
def access_tells_what_can_be_done(folder: Path) -> None:
    new(folder / "f")
    assert os.access(folder / "f", os.F_OK | os.R_OK | os.W_OK)
    assert not os.access(folder / "missing", os.F_OK)
    assert os.access(folder, os.R_OK | os.W_OK | os.X_OK)


@behaviour
def chown_to_oneself_succeeds(folder: Path) -> None:
    os.chown(new(folder / "f"), os.getuid(), os.getgid())
    os.chown(folder / "f", -1, -1)
    with opened(folder / "f", os.O_RDONLY) as fd:
        os.fchown(fd, os.getuid(), os.getgid())
    status = (folder / "f").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


@behaviour
def chown_to_another_is_refused(folder: Path) -> None:
    new(folder / "f")
    with refused(errno.EPERM):
        os.chown(folder / "f", 0, 0)
    assert (folder / "f").stat().st_uid == os.getuid()


@behaviour
def mode_of_a_new_file_can_forbid_writing(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY, 0o444):
        pass
    with refused(errno.EACCES):
        os.open(folder / "f", os.O_WRONLY)
