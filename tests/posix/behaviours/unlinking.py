"""unlink(2), and files that live on nameless while they are open."""

import errno
import mmap
import os
from pathlib import Path

from tests.posix.behaviour import behaviour, in_child, new, opened, pattern, refused

CREATE = os.O_CREAT | os.O_RDWR


@behaviour
def unlink_removes_a_file(folder: Path) -> None:
    new(folder / "f", b"content").unlink()
    assert os.listdir(folder) == []
    with refused(errno.ENOENT):
        (folder / "f").stat()


@behaviour
def unlink_of_a_missing_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        (folder / "f").unlink()


@behaviour
def unlink_twice_is_refused(folder: Path) -> None:
    new(folder / "f").unlink()
    with refused(errno.ENOENT):
        (folder / "f").unlink()


@behaviour
def unlink_of_a_folder_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EISDIR):
        (folder / "d").unlink()
    assert (folder / "d").is_dir()


@behaviour
def unlink_right_after_the_close(folder: Path) -> None:
    for number in range(10):
        new(folder / "f", b"%d" % number)
        assert (folder / "f").read_bytes() == b"%d" % number
        (folder / "f").unlink()
        assert os.listdir(folder) == []


@behaviour
def unlink_of_an_open_file_takes_its_name_at_once(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY):
        (folder / "f").unlink()
        assert os.listdir(folder) == []
        assert not (folder / "f").exists()
    assert os.listdir(folder) == []


@behaviour
def unlinked_file_is_still_read(folder: Path) -> None:
    with opened(new(folder / "f", pattern(300_000)), os.O_RDONLY) as fd:
        (folder / "f").unlink()
        assert os.pread(fd, 400_000, 0) == pattern(300_000)


@behaviour
def unlinked_file_is_still_written(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"before ")
        (folder / "f").unlink()
        os.write(fd, b"after")
        os.fsync(fd)
        assert os.pread(fd, 100, 0) == b"before after"
        assert os.fstat(fd).st_size == 12


@behaviour
def unlinked_file_is_still_truncated(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, b"0123456789")
        (folder / "f").unlink()
        os.ftruncate(fd, 4)
        os.pwrite(fd, b"end", 6)
        assert os.pread(fd, 100, 0) == b"0123\0\0end"


@behaviour
def unlinked_file_has_no_name_left(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDONLY) as fd:
        (folder / "f").unlink()
        assert os.fstat(fd).st_nlink == 0


@behaviour
def unlinked_file_makes_room_for_another(folder: Path) -> None:
    with opened(new(folder / "f", b"old"), os.O_RDWR) as fd:
        (folder / "f").unlink()
        new(folder / "f", b"new one")
        os.pwrite(fd, b"OLD", 0)
        assert os.pread(fd, 100, 0) == b"OLD"
        assert (folder / "f").read_bytes() == b"new one"
        assert os.listdir(folder) == ["f"]
    assert (folder / "f").read_bytes() == b"new one"


@behaviour
def unlinked_file_is_another_than_its_successor(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDONLY) as fd:
        (folder / "f").unlink()
        assert new(folder / "f").stat().st_ino != os.fstat(fd).st_ino


@behaviour
def unlinked_file_can_be_given_times_and_mode(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        (folder / "f").unlink()
        os.utime(fd, ns=(1_234_567_890_000_000_000,) * 2)
        os.fchmod(fd, 0o600)
        assert os.fstat(fd).st_mtime_ns == 1_234_567_890_000_000_000


@behaviour
def unlinked_file_with_several_handles(folder: Path) -> None:
    with opened(folder / "f", CREATE) as one:
        with opened(folder / "f", os.O_RDWR) as two:
            (folder / "f").unlink()
            os.write(one, b"content")
            assert os.pread(two, 100, 0) == b"content"
        assert os.pread(one, 100, 0) == b"content"


@behaviour
def unlinked_file_stays_mapped(folder: Path) -> None:
    with opened(new(folder / "f", pattern(20_000)), os.O_RDONLY) as fd:
        mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    (folder / "f").unlink()
    assert mapped[:] == pattern(20_000)
    mapped.close()


@behaviour
def unlink_of_one_of_two_names_keeps_an_open_file(folder: Path) -> None:
    os.link(new(folder / "a", b"content"), folder / "b")
    with opened(folder / "a", os.O_RDWR) as fd:
        (folder / "a").unlink()
        os.pwrite(fd, b"CONTENT", 0)
        assert (folder / "b").read_bytes() == b"CONTENT"
    assert (folder / "b").read_bytes() == b"CONTENT"


@behaviour
def unlink_by_another_process_keeps_an_open_file(folder: Path) -> None:
    with opened(new(folder / "f", b"content"), os.O_RDONLY) as fd:
        in_child((folder / "f").unlink)
        assert not (folder / "f").exists()
        assert os.pread(fd, 100, 0) == b"content"


@behaviour
def unlink_of_many_open_files(folder: Path) -> None:
    fds = [os.open(folder / f"f{number}", CREATE) for number in range(20)]
    for number, fd in enumerate(fds):
        os.write(fd, b"%d" % number)
        (folder / f"f{number}").unlink()
    assert os.listdir(folder) == []
    assert [os.pread(fd, 10, 0) for fd in fds] == [b"%d" % number for number in range(20)]
    for fd in fds:
        os.close(fd)
    assert os.listdir(folder) == []


@behaviour
def unlink_of_an_open_file_lets_its_folder_go(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d" / "f", CREATE) as fd:
        os.write(fd, b"content")
        (folder / "d" / "f").unlink()
        (folder / "d").rmdir()
        assert os.listdir(folder) == []
        assert os.pread(fd, 100, 0) == b"content"


@behaviour
def unlink_leaves_nothing_to_remove_the_folder_after_the_last_close(folder: Path) -> None:
    (folder / "d").mkdir()
    with opened(folder / "d" / "f", CREATE) as fd:
        (folder / "d" / "f").unlink()
        os.write(fd, b"content")
    (folder / "d").rmdir()
    assert os.listdir(folder) == []


@behaviour
def unlink_and_fsync_of_what_nobody_can_see(folder: Path) -> None:
    with opened(folder / "f", CREATE) as fd:
        os.write(fd, pattern(200_000))
        (folder / "f").unlink()
        os.fsync(fd)
        assert os.pread(fd, 200_000, 0) == pattern(200_000)
