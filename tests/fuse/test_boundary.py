"""Every handler answers, with a value that pyfuse3 and the kernel can take, or with an errno."""

import errno
import math
import os
import stat
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from smbfuse.errors import ConnectionLost, NotFound, SmbError
from smbfuse.fuse import boundary
from smbfuse.fuse.boundary import at_once_if, total, untimed
from smbfuse.fuse.gate import Gate
from smbfuse.share import Space
from smbfuse.vfs.posix import ABSENT, Entry, Listed, Opened, PosixStat
from tests.conftest import ExpectedWarnings

FILE = PosixStat(2**64 - 1, stat.S_IFREG | 0o4755, 3, 1000, 2**32 - 2, 0, 2**63 - 1, 8, 65536, -1, 10**18 + 7, 1)


class Handlers:
    """Handlers whose end the test decides."""

    patience_s = 60.0

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.gate = Gate()
        self.memory = {"known": "at hand", "nothing": ""}

    @total
    async def ask(self, question: str) -> str:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return question.upper()

    @total
    async def hang(self) -> None:
        await trio.sleep_forever()

    def _remembered(self, question: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.memory.get(question)

    @at_once_if(_remembered)
    async def recall(self, question: str) -> str:
        await trio.sleep_forever()

    @untimed
    async def write_out(self) -> str:
        await trio.sleep(100 * self.patience_s)
        if self.error is not None:
            raise self.error
        return "written"


async def errno_of(error: BaseException) -> int:
    with pytest.raises(FUSEError) as caught:
        await Handlers(error).ask("x")
    return caught.value.errno


async def test_a_value_passes() -> None:
    assert await Handlers().ask("answer") == "ANSWER"


@pytest.mark.parametrize(
    "error, expected",
    [
        (NotFound("gone", status=0xC0000034), errno.ENOENT),
        (ConnectionLost("cut", sent=True), errno.EHOSTDOWN),
        (SmbError("odd", errno=errno.ESTALE), errno.ESTALE),
        (FUSEError(errno.ENAMETOOLONG), errno.ENAMETOOLONG),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [SmbError("x", errno=errno.EBUSY)])]), errno.EBUSY),
        # What the kernel takes no answer for, or would take for success.
        (SmbError("wild", errno=512), errno.EIO),
        (SmbError("wild", errno=2**40), errno.EIO),
        (SmbError("wild", errno=-5), errno.EIO),
        (SmbError("wild", errno=0), errno.EIO),
        # It would end this kind of request for the whole mount.
        (SmbError("unknown", errno=errno.ENOSYS), errno.EOPNOTSUPP),
        (SmbError("wild", errno="EIO"), errno.EIO),  # type: ignore[arg-type]
    ],
)
async def test_an_error_becomes_an_errno(error: BaseException, expected: int) -> None:
    assert await errno_of(error) == expected


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError("x"), AssertionError("x"), ExceptionGroup("tasks", [ValueError("x")]), OSError(2, "x")]
)
async def test_a_bug_becomes_eio_and_is_told(bug: Exception, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("this is a bug")
    assert await errno_of(bug) == errno.EIO


async def test_a_handler_without_an_answer_is_given_up(
    autojump_clock: trio.testing.MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("hang given up after 60 s")
    with pytest.raises(FUSEError) as caught:
        await Handlers().hang()
    assert caught.value.errno == errno.ETIMEDOUT


async def test_what_is_at_hand_is_answered_at_once_and_the_rest_in_time(
    autojump_clock: trio.testing.MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("recall given up after 60 s")
    began = trio.current_time()
    assert await Handlers().recall("known") == "at hand"
    assert await Handlers().recall("nothing") == ""  # which is an answer as well
    assert trio.current_time() == began
    with pytest.raises(FUSEError) as caught:
        await Handlers().recall("unknown")
    assert caught.value.errno == errno.ETIMEDOUT


async def test_an_error_in_what_is_at_hand_becomes_an_errno() -> None:
    with pytest.raises(FUSEError) as caught:
        await Handlers(SmbError("odd", errno=errno.ESTALE)).recall("known")
    assert caught.value.errno == errno.ESTALE


async def test_the_end_of_the_mount_passes() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await Handlers().ask("x")
    assert scope.cancelled_caught


def test_attributes_arrive_unchanged() -> None:
    attributes = boundary.entry_attributes(Entry(FILE, generation=7, entry_timeout_s=1.5, attr_timeout_s=0.0))
    assert attributes.__getstate__() == {
        "st_ino": FILE.ino,
        "generation": 7,
        "entry_timeout": 1.5,
        "attr_timeout": 0.0,
        "st_mode": FILE.mode,
        "st_nlink": 3,
        "st_uid": 1000,
        "st_gid": 2**32 - 2,
        "st_rdev": 0,
        "st_size": 2**63 - 1,
        "st_blksize": 65536,
        "st_blocks": 8,
        "st_atime_ns": -1,
        "st_mtime_ns": 10**18 + 7,
        "st_ctime_ns": 1,
        "st_birthtime_ns": 0,
    }


def test_an_absent_name_is_an_answer_to_lookup_only() -> None:
    absent = Entry(ABSENT, 0, 2.0, 0.0)
    answer = boundary.entry_attributes(absent, absent=True)
    assert (answer.st_ino, answer.entry_timeout) == (0, 2.0)
    with pytest.raises(ValueError, match="inode 0"):
        boundary.entry_attributes(absent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": 0o644},
        {"mode": 0o130000},
        {"size": -1},
        {"size": 2**63},
        {"blocks": -1},
        {"ino": 2**64},
        {"ino": -1},
        {"uid": -1},
        {"gid": 2**32},
        {"nlink": -1},
        {"mtime_ns": 2**200},
        {"nlink": "one"},
        {"blksize": None},
    ],
    ids=str,
)
def test_attributes_that_no_file_has_are_a_bug(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)):
        boundary.entry_attributes(Entry(FILE._replace(**wrong), 0, 1.0, 1.0))


@pytest.mark.parametrize("seconds", [math.nan, -0.5])
def test_a_timeout_that_is_none_is_a_bug(seconds: float) -> None:
    with pytest.raises(ValueError, match="time-out"):
        boundary.entry_attributes(Entry(FILE, 0, seconds, 1.0))
    with pytest.raises(ValueError, match="time-out"):
        boundary.entry_attributes(Entry(FILE, 0, 1.0, seconds))


def test_a_listing_leaves_out_what_no_folder_can_hold(expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("left out")
    good = Entry(FILE, 0, 1.0, 1.0)
    listed = [
        Listed(b"first", good, 1),
        Listed(b"sla/sh", good, 2),
        Listed(b"nul\0", good, 3),
        Listed(b"", good, 4),
        Listed(b"x" * 256, good, 5),
        Listed(b"no cookie", good, 0),
        Listed(b"huge cookie", good, 2**63),
        Listed(b"no type", Entry(FILE._replace(mode=0), 0, 1.0, 1.0), 6),
        Listed(b"y" * 255, good, 7),
    ]
    assert [(name, cookie) for name, _, cookie in boundary.listing(listed)] == [(b"first", 1), (b"y" * 255, 7)]


def test_a_read_is_one_piece_and_no_longer_than_asked_for() -> None:
    data = memoryview(bytearray(b"0123456789"))
    assert boundary.payload(data[2:6], 4) is not None
    assert bytes(boundary.payload(b"", 4)) == b""
    for wrong in (data[::2], data, memoryview(bytearray(16)).cast("I")):
        with pytest.raises(ValueError, match="for a read of"):
            boundary.payload(wrong, 5)


def test_a_handle_fits_64_bits() -> None:
    assert boundary.file_info(Opened(2**64 - 1, direct_io=False, keep_cache=True)).fh == 2**64 - 1
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="handle"):
            boundary.handle(wrong)


@pytest.mark.parametrize(
    "target, expected", [(b"", errno.EIO), (b"a\0b", errno.EIO), (b"x" * 4096, errno.ENAMETOOLONG)]
)
def test_a_link_that_no_path_can_hold(target: bytes, expected: int) -> None:
    with pytest.raises(FUSEError) as caught:
        boundary.link_target(target)
    assert caught.value.errno == expected
    assert boundary.link_target(b"x" * 4095) == b"x" * 4095


@pytest.mark.parametrize("block_size", [0, -1, 511, 2**40])
def test_df_never_divides_by_nonsense(block_size: int) -> None:
    answer = boundary.statvfs(Space(total=2**80, free=-5, available=8192, block_size=block_size, name_max=0))
    assert (answer.f_frsize, answer.f_bfree, answer.f_bavail, answer.f_namemax) == (4096, 0, 2, 1)
    assert answer.f_blocks == (2**63 - 1) // 4096


def test_the_groups_of_a_caller_who_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        pid = 0
        gid = 42

    assert boundary.caller_groups(Context()) == {42}  # type: ignore[arg-type]
    Context.pid = os.getpid()
    assert boundary.caller_groups(Context()) == {42, *pyfuse3.get_sup_groups(os.getpid())}  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [-1, 4097, 2**64])
def test_more_than_was_given_is_never_written(count: int) -> None:
    assert [boundary.written(one, 4096) for one in (0, 1, 4096)] == [0, 1, 4096]
    with pytest.raises(ValueError, match="bytes written of 4096"):
        boundary.written(count, 4096)


def test_an_attributes_value_and_names_fit_what_a_caller_has() -> None:
    assert boundary.attribute_value(memoryview(b"x" * 65536)) == b"x" * 65536
    assert type(boundary.attribute_value(bytearray(b"x"))) is bytes
    assert boundary.attribute_names(iter([b"user.a", b"user.\xff"])) == [b"user.a", b"user.\xff"]
    with pytest.raises(FUSEError) as caught:
        boundary.attribute_value(b"x" * 65537)
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(FUSEError) as caught:
        boundary.attribute_names([b"user." + b"x" * 250] * 257)
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize("name", [b"", b"user.\0a"])
def test_a_name_that_cannot_be_told_is_a_bug(name: bytes) -> None:
    with pytest.raises(ValueError, match="extended attribute"):
        boundary.attribute_names([b"user.a", name])


async def test_a_handler_that_writes_out_is_never_given_up(autojump_clock: trio.testing.MockClock) -> None:
    assert await Handlers().write_out() == "written"
    with pytest.raises(FUSEError) as caught:
        await Handlers(SmbError("full", errno=errno.ENOSPC)).write_out()
    assert caught.value.errno == errno.ENOSPC
