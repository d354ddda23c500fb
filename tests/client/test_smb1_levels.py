"""Levels of SMB1 servers: what each one's answer is turned into, and how a server's knowledge is found out."""

import pytest

from smbfuse.client.smb1_levels import Ladder, decode_entries, decode_stat, has_id
from smbfuse.errors import DecodeError
from smbfuse.share import Attributes, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileInternalInformation,
    FileStandardInformation,
)
from smbfuse.wire.smb1.levels import PathLevel, QueryFileAllInfo, UnixBasic, UnixInfo2, UnixType
from smbfuse.wire.smb1.listing import FindLevel, UnixEntry, encode_unix_page
from smbfuse.wire.smb1.message import UNICODE

BASIC = FileBasicInformation(1, 2, 3, 4, 0x20)
STANDARD = FileStandardInformation(4096, 5, 1, 0, 0)
NAMES = ["", "\\", "\\a", "\\" + "x" * 13, "\\" + "x" * 14, "\\" + "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_file_all_information_is_told_from_what_samba_sends_instead(name: str) -> None:
    internal = FileInternalInformation(0x1234_5678_9ABC)
    true = FileAllInformation(BASIC, STANDARD, internal, 0, 0, 0, 0, 0, name).encode()
    sambas = QueryFileAllInfo(BASIC, STANDARD, 0, name).encode(UNICODE)
    assert has_id(memoryview(true))
    assert not has_id(memoryview(sambas))


@pytest.mark.parametrize("name", NAMES)
def test_an_id_that_looks_like_a_length_does_not_confuse(name: str) -> None:
    length = 100 + 2 * len(name) - 72
    internal = FileInternalInformation(length << 32)
    assert has_id(memoryview(FileAllInformation(BASIC, STANDARD, internal, 0, 0, 0, 0, 0, name).encode()))


UNIX = (5, 512, 10**18, 2 * 10**17, 3 * 10**17, 1000, 100)


def unix_stat(kind: int, *, permissions: int = 0o644, device: tuple[int, int] = (8, 1)) -> bytes:
    return UnixBasic(*UNIX, kind, *device, 77, permissions, 2).encode()


def decode_unix(data: bytes) -> object:
    return decode_stat(PathLevel.UNIX_BASIC, memoryview(data), UNICODE, 0)


def test_the_servers_own_stat() -> None:
    stat = decode_stat(PathLevel.UNIX_BASIC, memoryview(unix_stat(UnixType.FILE)), UNICODE, 0)
    assert (stat.kind, stat.size, stat.allocation, stat.file_id, stat.links) == (Kind.FILE, 5, 512, 77, 2)
    assert (stat.mode, stat.uid, stat.gid) == (0o644, 1000, 100)
    assert (stat.volume_id, stat.device) == (8 << 32 | 1, None)
    assert stat.created_ns is None
    assert stat.attributes == Attributes.NORMAL


def test_a_device_has_numbers_of_its_own_and_no_volume() -> None:
    stat = decode_stat(PathLevel.UNIX_BASIC, memoryview(unix_stat(UnixType.BLOCK_DEVICE)), UNICODE, 0)
    assert (stat.kind, stat.volume_id, stat.device) == (Kind.BLOCK_DEVICE, None, (8, 1))


def test_what_nobody_may_write_is_read_only() -> None:
    stat = decode_stat(PathLevel.UNIX_BASIC, memoryview(unix_stat(UnixType.FILE, permissions=0o555)), UNICODE, 0)
    assert stat.attributes & Attributes.READONLY


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_unix(unix_stat(99))


def test_a_unix_page_has_the_time_of_birth() -> None:
    info = UnixInfo2(*UNIX, UnixType.DIRECTORY, 8, 1, 77, 0o755, 2, 132_444_736_000_000_000, 0, 0)
    page = encode_unix_page(FindLevel.UNIX_INFO2, [UnixEntry("größe", info)], UNICODE)
    (entry,) = decode_entries(FindLevel.UNIX_INFO2, memoryview(page), 1, UNICODE, 0)
    assert (entry.name, entry.stat.kind, entry.stat.created_ns) == ("größe", Kind.DIRECTORY, 16 * 10**17)


def test_a_level_that_is_not_known_is_left_for_good() -> None:
    ladder = Ladder([3, 2, 1])
    assert ladder.step_down(3, NtStatus.INVALID_LEVEL)
    assert ladder.step_down(3, NtStatus.INVALID_LEVEL), "another question had been on its way"
    assert ladder.level == 2
    ladder.worked(2)
    assert not ladder.step_down(2, NtStatus.NOT_SUPPORTED), "it has worked: the refusal is the file's"


def test_a_refusal_of_the_file_is_not_one_of_the_level() -> None:
    ladder = Ladder([2, 1])
    assert not ladder.step_down(2, NtStatus.OBJECT_NAME_NOT_FOUND)
    assert ladder.level == 2


def test_the_last_level_is_not_left() -> None:
    ladder = Ladder([1])
    assert not ladder.step_down(1, NtStatus.NOT_SUPPORTED)
