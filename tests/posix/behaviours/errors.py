"""Wrong questions have the right answers, and space is told."""

import errno
import os
import shutil
import socket
import stat
from pathlib import Path

from tests.posix.behaviour import behaviour, errno_of, new, opened, refused


@behaviour
def missing_name_is_not_found(folder: Path) -> None:
    for ask in (os.stat, os.listdir, os.readlink, os.unlink, os.rmdir):
        with refused(errno.ENOENT):
            ask(folder / "missing")


@behaviour
def path_through_a_file_is_no_folder(folder: Path) -> None:
    new(folder / "f")
    for ask in (os.stat, os.listdir, os.unlink, os.rmdir):
        with refused(errno.ENOTDIR):
            ask(folder / "f" / "g")


@behaviour
def slash_after_a_file_is_refused(folder: Path) -> None:
    new(folder / "f")
    with refused(errno.ENOTDIR):
        os.stat(f"{folder}/f/")
    with refused(errno.ENOTDIR):
        os.open(f"{folder}/f/", os.O_RDONLY)
    with refused(errno.EISDIR):
        os.open(f"{folder}/missing/", os.O_CREAT | os.O_WRONLY)


@behaviour
def seek_before_the_start_is_refused(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY) as fd, refused(errno.EINVAL):
        os.lseek(fd, -1, os.SEEK_SET)


@behaviour
def device_node_is_refused(folder: Path) -> None:
    with refused(errno.EPERM):
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert os.listdir(folder) == []


@behaviour
def socket_has_a_name(folder: Path) -> None:
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as asking:
        listening.bind("s")
        assert stat.S_ISSOCK(os.lstat("s").st_mode)
        listening.listen()
        asking.connect("s")
    os.unlink("s")
    assert os.listdir(folder) == []


@behaviour
def extended_attribute_is_kept_or_refused(folder: Path) -> None:
    new(folder / "f")
    number = errno_of(lambda: os.setxattr(folder / "f", "user.comment", b"a value"))
    assert number in (0, errno.EOPNOTSUPP)
    if number == 0:
        assert os.getxattr(folder / "f", "user.comment") == b"a value"


@behaviour
def room_is_told(folder: Path) -> None:
    told = os.statvfs(folder)
    assert told.f_bsize > 0
    assert told.f_frsize > 0
    assert 0 < told.f_bavail <= told.f_bfree <= told.f_blocks
    assert told.f_namemax >= 255


@behaviour
def room_is_told_of_a_handle_too(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDONLY) as fd:
        by_handle, by_name = os.fstatvfs(fd), os.statvfs(folder)
    assert (by_handle.f_bsize, by_handle.f_blocks) == (by_name.f_bsize, by_name.f_blocks)
    assert shutil.disk_usage(folder).total > 0


@behaviour
def blocks_follow_what_is_written(folder: Path) -> None:
    assert new(folder / "f", b"x" * 200_000).stat().st_blocks * 512 >= 200_000
