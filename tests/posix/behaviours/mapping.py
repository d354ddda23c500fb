"""mmap(2): mapped files are the files."""

import errno
import mmap
import os
import shutil
import subprocess
from pathlib import Path

from tests.posix.behaviour import behaviour, in_child, new, opened, pattern, refused

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


@behaviour
def mapped_file_is_read(folder: Path) -> None:
    data = pattern(100_000)
    with opened(new(folder / "f", data), os.O_RDONLY) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == data
        assert mapped[99_990:] == data[99_990:]


@behaviour
def mapped_write_reaches_the_file(folder: Path) -> None:
    with opened(new(folder / "f", bytes(20_000)), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[5000:5007] = b"changed"
        mapped.flush()
    assert (folder / "f").read_bytes() == bytes(5000) + b"changed" + bytes(14_993)


@behaviour
def mapped_write_reaches_the_file_without_flush(folder: Path) -> None:
    with opened(new(folder / "f", bytes(20_000)), os.O_RDWR) as fd:
        mapped = mmap.mmap(fd, 0)
    mapped[0:5] = b"start"
    mapped[19_997:] = b"end"
    mapped.close()
    assert (folder / "f").read_bytes() == b"start" + bytes(19_992) + b"end"


@behaviour
def mapped_write_is_seen_by_read(folder: Path) -> None:
    with opened(new(folder / "f", bytes(10_000)), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[100:103] = b"abc"
        assert os.pread(fd, 5, 99) == b"\0abc\0"


@behaviour
def write_is_seen_by_a_mapping(folder: Path) -> None:
    with opened(new(folder / "f", bytes(10_000)), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        assert mapped[100:103] == bytes(3)
        os.pwrite(fd, b"abc", 100)
        assert mapped[99:104] == b"\0abc\0"


@behaviour
def two_mappings_share_a_file(folder: Path) -> None:
    with opened(new(folder / "f", bytes(10_000)), os.O_RDWR) as fd:
        with mmap.mmap(fd, 0) as one, mmap.mmap(fd, 0) as two:
            one[9000:9003] = b"abc"
            assert two[9000:9003] == b"abc"
            two[0:1] = b"Z"
        assert os.pread(fd, 1, 0) == b"Z"


@behaviour
def mapping_is_shared_with_another_process(folder: Path) -> None:
    with opened(new(folder / "f", bytes(10_000)), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:

        def write() -> None:
            mapped[1:4] = b"abc"

        in_child(write)
        assert mapped[0:5] == b"\0abc\0"


@behaviour
def private_mapping_keeps_its_changes_to_itself(folder: Path) -> None:
    data = pattern(10_000)
    with opened(new(folder / "f", data), os.O_RDONLY) as fd:
        with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=READ_WRITE) as mapped:
            mapped[0:3] = b"abc"
            assert mapped[0:3] == b"abc"
        assert os.pread(fd, 20_000, 0) == data
    assert (folder / "f").read_bytes() == data


@behaviour
def mapping_beyond_the_end_shows_zeros(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        assert mapped[:] == b"content"
    with opened(folder / "f", os.O_RDWR) as fd:
        os.ftruncate(fd, 4096)
        with mmap.mmap(fd, 0) as mapped:
            assert mapped[:] == b"content" + bytes(4089)


@behaviour
def mapping_grows_with_the_file(folder: Path) -> None:
    with opened(new(folder / "f", b"x" * 4096), os.O_RDWR) as fd:
        with mmap.mmap(fd, 0) as mapped:
            mapped.resize(12_288)
            mapped[12_285:] = b"end"
        assert os.fstat(fd).st_size == 12_288
    assert (folder / "f").read_bytes() == b"x" * 4096 + bytes(8189) + b"end"


@behaviour
def mapping_outlasts_handle_and_name(folder: Path) -> None:
    with opened(new(folder / "f", pattern(30_000)), os.O_RDWR) as fd:
        mapped = mmap.mmap(fd, 0)
    (folder / "f").rename(folder / "g")
    mapped[0:3] = b"abc"
    assert mapped[29_000:] == pattern(30_000)[29_000:]
    mapped.close()
    assert (folder / "g").read_bytes() == b"abc" + pattern(30_000)[3:]


@behaviour
def mapping_for_writing_of_a_handle_for_reading_is_refused(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY) as fd, refused(errno.EACCES):
        mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=READ_WRITE)


@behaviour
def mapped_write_moves_the_time(folder: Path) -> None:
    os.utime(new(folder / "f", bytes(5000)), (1e9, 1e9))
    with opened(folder / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[0:1] = b"x"
        mapped.flush()
    assert (folder / "f").stat().st_mtime > 1.5e9


@behaviour
def program_runs_from_here(folder: Path) -> None:
    shutil.copy("/bin/echo", folder / "program")
    (folder / "program").chmod(0o755)
    ran = subprocess.run([folder / "program", "mapped", "and", "run"], capture_output=True, check=True)
    assert ran.stdout == b"mapped and run\n"


@behaviour
def script_runs_from_here(folder: Path) -> None:
    new(folder / "script", b"#!/bin/sh\necho run by its first line\n").chmod(0o755)
    ran = subprocess.run([folder / "script"], capture_output=True, check=True)
    assert ran.stdout == b"run by its first line\n"
