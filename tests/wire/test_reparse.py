"""Reparse points of every kind: golden bytes, round trips, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire import reparse
from smbfuse.wire.reparse import NfsType, ReparsePoint, ReparseTag

GOLDEN: list[tuple[ReparsePoint, str]] = [
    (
        reparse.SymlinkReparse("..\\é", "p", reparse.SYMLINK_FLAG_RELATIVE),
        "0c0000a0 1600 0000 0000 0800 0800 0200 01000000 2e002e005c00e900 7000",
    ),
    (
        reparse.MountPointReparse("\\??\\C:", "C:"),
        "030000a0 1c00 0000 0000 0c00 0e00 0400 5c003f003f005c0043003a00 0000 43003a00 0000",
    ),
    (reparse.NfsReparse(NfsType.SYMLINK, "a/é"), "14000080 0e00 0000 4c4e4b0100000000 61002f00e900"),
    (reparse.NfsReparse(NfsType.FIFO), "14000080 0800 0000 4649464f00000000"),
    (reparse.NfsReparse(NfsType.BLOCK, device=(8, 1)), "14000080 1000 0000 424c4b0000000000 08000000 01000000"),
    (reparse.WslSymlinkReparse("a/é"), "1d0000a0 0800 0000 02000000 612fc3a9"),
    (reparse.OtherReparse(ReparseTag.AF_UNIX, b""), "23000080 0000 0000"),
    (reparse.OtherReparse(ReparseTag.LX_FIFO, b""), "24000080 0000 0000"),
    (reparse.OtherReparse(0x80000013, b"dedup"), "13000080 0500 0000 6465647570"),
]


@pytest.mark.parametrize("point, digits", GOLDEN, ids=lambda part: type(part).__name__)
def test_golden_bytes(point: ReparsePoint, digits: str) -> None:
    data = bytes.fromhex(digits)
    assert reparse.encode(point).hex() == data.hex()
    assert reparse.decode(data) == point


@pytest.mark.parametrize("point, digits", GOLDEN, ids=lambda part: type(part).__name__)
def test_every_cut_is_refused(point: ReparsePoint, digits: str) -> None:
    data = bytes.fromhex(digits)
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            reparse.decode(data[:size])


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**32 - 1))
def test_any_symlink_survives_the_wire(substitute: str, printed: str, flags: int) -> None:
    point = reparse.SymlinkReparse(substitute, printed, flags)
    assert reparse.decode(reparse.encode(point)) == point
    assert point.relative == bool(flags & 1)


@given(st.sampled_from(list(ReparseTag)), st.binary(max_size=60), st.integers(0, 80))
def test_any_bytes_are_a_reparse_point_or_refused(tag: ReparseTag, data: bytes, length: int) -> None:
    try:
        reparse.decode(tag.to_bytes(4, "little") + length.to_bytes(2, "little") + b"\0\0" + data)
    except DecodeError:
        pass


def test_bytes_that_are_no_utf8_survive_in_the_symlinks_of_wsl() -> None:
    point = reparse.decode(bytes.fromhex("1d0000a0 0600 0000 02000000 ff41"))
    assert isinstance(point, reparse.WslSymlinkReparse)
    assert point.target == "\udcffA"
    assert reparse.encode(point).endswith(b"\xffA")


def test_the_device_number_of_wsl_is_an_attribute_of_its_own() -> None:
    value = reparse.encode_wsl_device((8, 1))
    assert value.hex() == "0800000001000000"
    assert reparse.decode_wsl_device(value) == (8, 1)
    with pytest.raises(DecodeError):
        reparse.decode_wsl_device(value[:7])
