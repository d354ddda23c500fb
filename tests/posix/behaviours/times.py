"""Times: set to what was asked, moved by what moves them, and left alone by the rest."""

import errno
import os
import time
from pathlib import Path

from tests.posix.behaviour import UTIME_NOW, UTIME_OMIT, behaviour, new, opened, refused, set_times

PAST = 1_234_567_890_123_456_700  # SMB has steps of 100 ns
EARLIER = 1_111_111_111_987_654_300
ALSO_PAST = (EARLIER, PAST)
CLOCKS_S = 3.0  # how far the server's clock may be from ours


def times_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_atime_ns, status.st_mtime_ns


@behaviour
def utime_sets_both_to_100_ns(folder: Path) -> None:
    os.utime(new(folder / "f"), ns=ALSO_PAST)
    assert times_of(folder / "f") == ALSO_PAST


@behaviour
def utime_of_an_open_file_by_its_handle(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY) as fd:
        os.utime(fd, ns=ALSO_PAST)
        assert os.fstat(fd).st_mtime_ns == PAST
    assert times_of(folder / "f") == ALSO_PAST


@behaviour
def utime_of_a_handle_for_reading(folder: Path) -> None:
    with opened(new(folder / "f"), os.O_RDONLY) as fd:
        os.utime(fd, ns=ALSO_PAST)
    assert times_of(folder / "f") == ALSO_PAST


@behaviour
def utime_after_writing_outlasts_the_close(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b"as cp -p and tar do")
        os.utime(fd, ns=ALSO_PAST)
    assert times_of(folder / "f") == ALSO_PAST
    time.sleep(0.05)
    assert times_of(folder / "f") == ALSO_PAST


@behaviour
def utime_by_name_outlasts_the_close_of_a_writer(folder: Path) -> None:
    with opened(folder / "f", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b"content")
        os.utime(folder / "f", ns=ALSO_PAST)
    assert times_of(folder / "f") == ALSO_PAST


@behaviour
def utime_after_the_close_stays(folder: Path) -> None:
    new(folder / "f", b"as rsync does")
    os.utime(folder / "f", ns=ALSO_PAST)
    assert times_of(folder / "f") == ALSO_PAST
    assert (folder / "f").read_bytes() == b"as rsync does"
    assert (folder / "f").stat().st_mtime_ns == PAST


@behaviour
def utime_outlasts_a_renaming(folder: Path) -> None:
    os.utime(new(folder / "f", b"content"), ns=ALSO_PAST)
    (folder / "f").rename(folder / "g")
    assert (folder / "g").stat().st_mtime_ns == PAST


@behaviour
def utime_without_times_means_now(folder: Path) -> None:
    os.utime(new(folder / "f"), ns=ALSO_PAST)
    before = time.time()
    os.utime(folder / "f")
    assert all(before - CLOCKS_S < value / 1e9 < time.time() + CLOCKS_S for value in times_of(folder / "f"))


@behaviour
def utime_now_and_omit(folder: Path) -> None:
    os.utime(new(folder / "f"), ns=ALSO_PAST)
    before = time.time()
    set_times(folder / "f", UTIME_OMIT, UTIME_NOW)
    accessed, written = times_of(folder / "f")
    assert accessed == EARLIER
    assert before - CLOCKS_S < written / 1e9 < time.time() + CLOCKS_S


@behaviour
def utime_of_the_access_alone(folder: Path) -> None:
    os.utime(new(folder / "f"), ns=ALSO_PAST)
    set_times(folder / "f", PAST + 100, UTIME_OMIT)
    assert times_of(folder / "f") == (PAST + 100, PAST)


@behaviour
def utime_of_the_writing_alone(folder: Path) -> None:
    os.utime(new(folder / "f"), ns=ALSO_PAST)
    set_times(folder / "f", UTIME_OMIT, EARLIER + 700)
    assert times_of(folder / "f") == (EARLIER, EARLIER + 700)


@behaviour
def utime_of_a_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "d" / "f")
    os.utime(folder / "d", ns=ALSO_PAST)
    assert (folder / "d").stat().st_mtime_ns == PAST


@behaviour
def utime_before_1970(folder: Path) -> None:
    long_ago = -86_400_000_000_000 * 365 * 10
    os.utime(new(folder / "f"), ns=(long_ago, long_ago))
    assert times_of(folder / "f") == (long_ago, long_ago)


@behaviour
def utime_after_2038(folder: Path) -> None:
    far = 4_102_444_800_000_000_000  # 2100
    os.utime(new(folder / "f"), ns=(far, far))
    assert times_of(folder / "f") == (far, far)


@behaviour
def utime_of_a_missing_file_is_refused(folder: Path) -> None:
    with refused(errno.ENOENT):
        os.utime(folder / "f")


@behaviour
def write_moves_the_time_while_open(folder: Path) -> None:
    os.utime(new(folder / "f", b"content"), ns=ALSO_PAST)
    with opened(folder / "f", os.O_WRONLY) as fd:
        os.write(fd, b"changed")
        assert os.fstat(fd).st_mtime_ns > PAST
    assert (folder / "f").stat().st_mtime_ns > PAST


@behaviour
def each_saving_moves_the_time(folder: Path) -> None:
    seen = []
    for number in range(3):
        new(folder / "f", b"%d" % number)
        seen.append((folder / "f").stat().st_mtime_ns)
        time.sleep(0.03)
    assert seen == sorted(set(seen))


@behaviour
def close_without_writing_leaves_the_time(folder: Path) -> None:
    os.utime(new(folder / "f", b"content"), ns=ALSO_PAST)
    with opened(folder / "f", os.O_RDWR):
        pass
    assert (folder / "f").stat().st_mtime_ns == PAST


@behaviour
def reading_leaves_the_time_of_writing(folder: Path) -> None:
    os.utime(new(folder / "f", b"content"), ns=ALSO_PAST)
    assert (folder / "f").read_bytes() == b"content"
    assert (folder / "f").stat().st_mtime_ns == PAST


@behaviour
def chmod_leaves_the_time_of_writing(folder: Path) -> None:
    os.utime(new(folder / "f", b"content"), ns=ALSO_PAST)
    (folder / "f").chmod(0o444)
    (folder / "f").chmod(0o644)
    assert (folder / "f").stat().st_mtime_ns == PAST


@behaviour
def change_of_contents_moves_the_time_of_the_folder(folder: Path) -> None:
    (folder / "d").mkdir()
    new(folder / "d" / "old")

    def moved_by(change: object) -> bool:
        os.utime(folder / "d", ns=ALSO_PAST)
        assert callable(change)
        change()
        return (folder / "d").stat().st_mtime_ns > PAST

    assert moved_by(lambda: new(folder / "d" / "f"))
    assert moved_by(lambda: (folder / "d" / "e").mkdir())
    assert moved_by(lambda: (folder / "d" / "f").rename(folder / "d" / "g"))
    assert moved_by((folder / "d" / "old").unlink)
    assert moved_by((folder / "d" / "e").rmdir)


@behaviour
def birth_changes_nothing_of_an_older_neighbour(folder: Path) -> None:
    os.utime(new(folder / "a", b"content"), ns=ALSO_PAST)
    new(folder / "b", b"content")
    assert times_of(folder / "a") == ALSO_PAST
