"""Every request that writes, through a real mount: what arrives, what comes back, and what the kernel never asks."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.fuse.conftest import Served
from tests.support.samba import wait_for

pytestmark = pytest.mark.mounts

PRELUDE = """
import errno, json, os, stat, sys
point = sys.argv[1]
os.chdir(point)
def errno_of(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        return error.errno
    return 0
"""


def notes(seen: dict[str, Any], *calls: str) -> list[list[Any]]:
    """Return what was noted of some calls, in order."""
    return [note for note in seen["notes"] if note[0] in calls]


def test_what_is_made_arrives_with_its_mode_and_flags(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    mount.python(
        PRELUDE
        + """
os.umask(0o027)
os.close(os.open("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
os.close(os.open("new", os.O_TRUNC | os.O_WRONLY))
os.mkdir("folder", 0o777)
os.mknod("pipe", stat.S_IFIFO | 0o600)
os.symlink("new", "sym")
os.link("new", "hard")
"""
    )
    seen = mount.end()
    create, *_ = notes(seen, "create")
    assert create[1:3] == ["new", "0o640"]
    assert create[3] & (os.O_CREAT | os.O_EXCL | os.O_WRONLY) == os.O_CREAT | os.O_EXCL | os.O_WRONLY
    assert create[4] == 0o027
    truncating = notes(seen, "open")[0][1]
    assert truncating & os.O_TRUNC  # atomic_o_trunc: one request, and no setattr
    assert notes(seen, "mkdir", "mknod", "symlink", "link", "setattr") == [
        ["mkdir", "folder", "0o750"],
        ["mknod", "pipe", "0o10600", 0],
        ["symlink", "sym", "new"],
        ["link", "hard"],
    ]


def test_attributes_arrive_as_they_were_set(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    times = mount.python(
        PRELUDE
        + """
open("f", "w").close()
os.chmod("f", 0o4711)
os.chown("f", 7, -1)
os.truncate("f", 5)
with open("f", "r+b") as file:
    os.ftruncate(file.fileno(), 3)
os.utime("f", ns=(-1_000_000_001, 1_234_567_890_123_456_789))
os.utime("f", ns=(10**9, 10**9))
import time
before = time.time_ns() - 20_000_000  # the clock that the kernel takes for files ticks more coarsely
os.utime("f")
print(before <= os.stat("f").st_mtime_ns <= time.time_ns(), os.stat("f").st_size)
"""
    )
    assert times == "True 3"
    changes = notes(mount.end(), "setattr")
    nothing = [None] * 6
    assert changes[:6] == [
        ["setattr", None, 0o4711, None, None, None, None, False],
        # The kernel takes the set-user-id bit off by itself.
        ["setattr", None, changes[1][2], 7, None, None, None, False],
        ["setattr", 5, *nothing[1:], False],
        ["setattr", 3, *nothing[1:], True],
        ["setattr", None, None, None, None, -1_000_000_001, 1_234_567_890_123_456_789, False],
        ["setattr", None, None, None, None, 10**9, 10**9, False],
    ]
    assert changes[6][5] == changes[6][6] is not None


def test_a_write_of_a_mebibyte_is_one_request_and_each_close_a_flush(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(
        PRELUDE
        + """
data = bytes(range(256)) * 8192
fd = os.open("big", os.O_CREAT | os.O_RDWR)
print(os.write(fd, data), os.pread(fd, 4, 1 << 20) == data[:4])
os.close(os.dup(fd))
os.fsync(fd)
os.fdatasync(fd)
os.close(fd)
folder = os.open(".", os.O_RDONLY)
os.fsync(folder)
os.close(folder)
"""
    )
    assert ran == f"{2 << 20} True"
    seen = mount.end()
    assert (seen["largest_write"], seen["asked"]["write"]) == (1 << 20, 2)
    assert bytes.fromhex(seen["content"]["big"]) == bytes(range(256)) * 8192
    assert notes(seen, "flush", "fsync", "fsyncdir") == [
        ["flush"],
        ["fsync", False],
        ["fsync", True],
        ["flush"],
        ["fsyncdir", False],
    ]


def test_errors_of_writing_reach_the_program(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(
        PRELUDE
        + """
fd = os.open("f", os.O_CREAT | os.O_RDWR)
said = [errno_of(os.write, fd, b"full"), errno_of(os.write, fd, b"short")]
os.write(fd, b"latched")
said += [errno_of(os.close, fd), errno_of(os.rmdir, "f")]
said += [errno_of(os.open, "wrong type", os.O_CREAT | os.O_WRONLY), errno_of(os.unlink, "no such call")]
print(json.dumps(said))
"""
    )
    assert json.loads(ran)[:3] == [errno.ENOSPC, errno.EIO, errno.EDQUOT]
    assert json.loads(ran)[4] == errno.EIO
    assert mount.process.poll() is None


def test_renaming_keeps_its_flags_whatever_the_filesystem_refuses(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(
        PRELUDE
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def renameat2(old, new, flags):
    return ctypes.get_errno() if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) else 0
open("a", "w").close()
open("b", "w").close()
exchange = renameat2("a", "b", 2)
# ENOSYS for one flag would have ended the others: the kernel would answer EINVAL by itself.
print(exchange, renameat2("a", "b", 1), renameat2("a", "c", 1), errno_of(os.rename, "b", "c"))
"""
    )
    assert ran == f"{errno.EOPNOTSUPP} {errno.EEXIST} 0 0"
    assert notes(mount.end(), "rename") == [
        ["rename", "a", "b", 2],
        ["rename", "a", "c", 1],
        ["rename", "b", "c", 0],
    ]


def test_an_unknown_call_ends_nothing_for_the_mount(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(
        PRELUDE
        + """
for name in ("no such call", "known"):
    open(name, "w").close()
print(errno_of(os.unlink, "no such call"), errno_of(os.unlink, "known"))
"""
    )
    assert ran == f"{errno.EOPNOTSUPP} 0"


WRITE_AND_ASK = """
for number in range(20):
    with open("f", "ab") as file:
        file.write(b"x")
"""


def test_without_extended_attributes_a_write_costs_no_question(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(PRELUDE + WRITE_AND_ASK + 'print(errno_of(os.getxattr, "f", "user.a"))')
    assert ran == str(errno.EOPNOTSUPP)
    asked = mount.end()["asked"]
    assert "getxattr" not in asked
    assert asked["write"] == 20


def test_extended_attributes_pass_both_ways(served: Callable[..., Served]) -> None:
    mount = served("test", "rw", "xattrs")
    ran = mount.python(
        PRELUDE
        + WRITE_AND_ASK
        + """
os.setxattr("f", "user.a", b"\\0value")
os.setxattr("f", "user.empty", b"")
said = [
    errno_of(os.setxattr, "f", "user.a", b"", os.XATTR_CREATE),
    errno_of(os.setxattr, "f", "user.b", b"", os.XATTR_REPLACE),
    errno_of(os.setxattr, "f", "user.a", b"x" * 65536, os.XATTR_REPLACE),
    errno_of(os.getxattr, "f", "user.none"),
    errno_of(os.getxattr, "f", "user.huge"),
    sorted(os.listxattr("f")),
    len(os.getxattr("f", "user.a")),
    len(os.getxattr("f", "user.empty")),
    errno_of(os.removexattr, "f", "user.a"),
    os.listxattr("f"),
]
print(json.dumps(said))
"""
    )
    assert json.loads(ran) == [
        errno.EEXIST,
        errno.ENODATA,
        0,
        errno.ENODATA,
        errno.E2BIG,
        ["user.a", "user.empty"],
        65536,
        0,
        0,
        ["user.empty"],
    ]
    asked = mount.end()["asked"]
    assert asked["getxattr"] > asked["write"]  # what user_xattr costs


def test_a_read_only_mount_asks_for_nothing_that_writes(served: Callable[..., Served]) -> None:
    mount = served()
    ran = mount.python(
        PRELUDE
        + """
print([errno_of(os.open, "new", os.O_CREAT | os.O_WRONLY), errno_of(os.mkdir, "d"), errno_of(os.unlink, "file"),
       errno_of(os.chmod, "file", 0o600), errno_of(os.truncate, "file", 0), errno_of(os.rename, "file", "g")])
"""
    )
    assert ran == str([errno.EROFS] * 6)
    asked = mount.end()["asked"]
    assert not {"create", "mkdir", "unlink", "setattr", "rename", "write"} & set(asked)


def test_the_kernel_may_keep_what_is_written(served: Callable[..., Served]) -> None:
    mount = served("test", "rw", "writeback")
    ran = mount.python(
        PRELUDE
        + """
with open("f", "wb", buffering=0) as file:
    for number in range(4096):
        file.write(b"x" * 64)
    kept = os.stat("f").st_size
print(kept)
"""
    )
    assert ran == str(4096 * 64)
    seen = mount.end()
    assert seen["asked"]["write"] < 40  # 4096 by the program
    assert bytes.fromhex(seen["content"]["f"]) == b"x" * 64 * 4096
    assert any(note[6] is not None for note in notes(seen, "setattr")), "the kernel owns the time, and tells it"


def test_direct_files_know_no_shared_mapping(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    ran = mount.python(
        PRELUDE
        + """
import mmap
with open("f", "wb") as file:
    file.write(b"direct" * 1000)
with open("f", "r+b") as file:
    said = errno_of(mmap.mmap, file.fileno(), 0)
    private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    print(said, private[:6])
"""
    )
    assert ran == f"{errno.ENODEV} b'direct'"


def test_killed_writers_hold_up_nobody(served: Callable[..., Served]) -> None:
    mount = served("test", "rw")
    program = (
        PRELUDE
        + """
fd = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
while True:
    os.pwrite(fd, b"x" * 4096, 0)
"""
    )
    for attempt in range(4):
        writers = [
            subprocess.Popen([sys.executable, "-c", program, mount.point, f"{attempt}-{number}"]) for number in range(3)
        ]
        names = {f"{attempt}-{number}" for number in range(3)}
        listing = [sys.executable, "-c", PRELUDE + "print(all(os.path.exists(one) for one in sys.argv[2:]))"]
        assert wait_for(lambda: mount.run(*listing, mount.point, *names).stdout == "True\n", 30)  # noqa: B023
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            assert writer.wait(20) == -signal.SIGKILL
    # A release is sent without waiting for it, and an unmount throws away those that nobody has read yet.
    mount.python("import os, sys; os.statvfs(sys.argv[1])")
    seen = mount.end()
    assert seen["longest_s"] < 1
    assert seen["asked"]["release"] == seen["asked"]["create"]


def test_unmounting_in_the_midst_of_writing_ends_in_an_answer_for_everybody(served: Callable[..., Served]) -> None:
    mount = served("test", "rw", "writeback")
    program = (
        PRELUDE
        + """
os.chdir("/")
with open(os.path.join(point, "f"), "wb", buffering=0) as file:
    print(flush=True)
    for number in range(2000):
        file.write(b"x" * 1000)
print("written", flush=True)
"""
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, mount.point], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    subprocess.run(["fusermount3", "-u", "-z", mount.point], timeout=10, check=True)
    # Lazily unmounted: who is inside stays inside, and gets all of it out.
    assert writer.communicate(timeout=20)[0] == "written\n"
    out, _ = mount.process.communicate(timeout=10)
    assert mount.process.returncode == 0, mount.log.read_text()
    assert len(bytes.fromhex(json.loads(out)["content"]["f"])) == 2_000_000
