"""What else open(2) and fcntl(2) take."""

import errno
import fcntl
import mmap
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, new, opened, refused

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def direct_io_writes_and_reads(folder: Path) -> None:
    with mmap.mmap(-1, 8192) as aligned:
        aligned[:] = b"direct!!" * 1024
        with opened(folder / "f", CREATE | os.O_DIRECT) as fd:
            assert os.write(fd, aligned) == 8192
            with mmap.mmap(-1, 8192) as back:
                assert os.preadv(fd, [back], 0) == 8192
                assert back[:] == aligned[:]
    assert (folder / "f").read_bytes() == b"direct!!" * 1024


@behaviour
def direct_and_cached_handles_see_each_other(folder: Path) -> None:
    with mmap.mmap(-1, 4096) as aligned, opened(new(folder / "f", bytes(4096)), os.O_RDWR) as cached:
        assert os.pread(cached, 10, 0) == bytes(10)
        aligned[:] = b"x" * 4096
        with opened(folder / "f", os.O_RDWR | os.O_DIRECT) as direct:
            os.pwrite(direct, aligned, 0)
            assert os.pread(cached, 10, 0) == b"x" * 10
            os.pwrite(cached, b"cached", 0)
            assert os.preadv(direct, [aligned], 0) == 4096
        assert aligned[:8] == b"cachedxx"


@behaviour
def append_and_truncate_together(folder: Path) -> None:
    new(folder / "f", b"old")
    with opened(folder / "f", os.O_WRONLY | os.O_APPEND | os.O_TRUNC) as fd:
        os.write(fd, b"ne")
        os.write(fd, b"w")
    assert (folder / "f").read_bytes() == b"new"


@behaviour
def exclusive_without_create_opens(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY | os.O_EXCL) as fd:
        assert os.read(fd, 10) == b"content"


@behaviour
def flags_are_told_again(folder: Path) -> None:
    with opened(folder / "f", CREATE | os.O_APPEND | os.O_NONBLOCK) as fd:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDWR
        assert flags & os.O_APPEND
        assert flags & os.O_NONBLOCK


@behaviour
def nonblocking_is_nothing_to_a_file(folder: Path) -> None:
    with opened(folder / "f", CREATE | os.O_NONBLOCK) as fd:
        assert os.write(fd, b"content") == 7
        assert os.pread(fd, 10, 0) == b"content"


@behaviour
def path_handle_tells_and_does_not_read(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_PATH) as fd:
        assert os.fstat(fd).st_size == 7
        with refused(errno.EBADF):
            os.read(fd, 1)


@behaviour
def handle_is_opened_again_by_its_number(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"content")
        with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            assert os.read(again, 10) == b"content"
            os.pwrite(again, b"C", 0)
        assert os.pread(fd, 10, 0) == b"Content"


@behaviour
def no_access_time_is_taken(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY | os.O_NOATIME) as fd:
        assert os.read(fd, 10) == b"content"


@behaviour
def advice_is_taken(folder: Path) -> None:
    with opened(new(folder / "f", bytes(100_000)), os.O_RDONLY) as fd:
        for advice in (os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED):
            os.posix_fadvise(fd, 0, 0, advice)
        assert os.pread(fd, 10, 99_995) == bytes(5)


@behaviour
def shell_redirections(folder: Path) -> None:
    script = (
        "echo one > f; echo two >> f; cat < f > g; : > h; exec 3<> f; echo ONE >&3; set -C; echo no > g || echo kept"
    )
    told = os.popen(f"cd '{folder}' && ({script}) 2>/dev/null").read()
    assert told == "kept\n"
    assert (folder / "f").read_bytes() == b"ONE\ntwo\n"
    assert (folder / "g").read_bytes() == b"one\ntwo\n"
    assert (folder / "h").read_bytes() == b""
