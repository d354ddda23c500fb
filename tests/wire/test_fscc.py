"""Information classes: golden bytes, round trips, and names that a short buffer has cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire import fscc

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(max_size=20).map(
    lambda text: text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
)

BASIC = fscc.FileBasicInformation(1, 2, 3, 4, 0x20)
STANDARD = fscc.FileStandardInformation(4096, 5, 6, 0, 1)

GOLDEN: list[tuple[Any, str]] = [
    (BASIC, "0100000000000000 0200000000000000 0300000000000000 0400000000000000 20000000 00000000"),
    (STANDARD, "0010000000000000 0500000000000000 06000000 00 01 0000"),
    (fscc.FileInternalInformation(0x0102030405060708), "0807060504030201"),
    (
        fscc.FileNetworkOpenInformation(1, 2, 3, 4, 4096, 5, 0x20),
        "0100000000000000 0200000000000000 0300000000000000 0400000000000000 0010000000000000 0500000000000000"
        "20000000 00000000",
    ),
    (fscc.FileAttributeTagInformation(0x400, 0xA000000C), "00040000 0c0000a0"),
    (
        fscc.FileFsFullSizeInformation(1, 2, 3, 8, 512),
        "0100000000000000 0200000000000000 0300000000000000 08000000 00020000",
    ),
    (fscc.FileFsSizeInformation(1, 2, 8, 512), "0100000000000000 0200000000000000 08000000 00020000"),
    (fscc.FileFsDeviceInformation(7, 0x20), "07000000 20000000"),
    (fscc.FileFsAttributeInformation(0x4F, 255, "NTFS"), "4f000000 ff000000 08000000 4e00540046005300"),
    (fscc.FileFsVolumeInformation(1, 0xCAFE, 1, "é"), "0100000000000000 feca0000 02000000 01 00 e900"),
    (
        fscc.FileAllInformation(BASIC, STANDARD, fscc.FileInternalInformation(9), 1, 2, 3, 4, 5, "\\é"),
        "0100000000000000 0200000000000000 0300000000000000 0400000000000000 20000000 00000000"
        "0010000000000000 0500000000000000 06000000 00 01 0000 0900000000000000"
        "01000000 02000000 0300000000000000 04000000 05000000 04000000 5c00e900",
    ),
]


@pytest.mark.parametrize("value, digits", GOLDEN, ids=lambda part: type(part).__name__)
def test_golden_bytes(value: Any, digits: str) -> None:
    data = bytes.fromhex(digits)
    assert value.encode() == data
    assert type(value).decode(data) == value


@pytest.mark.parametrize("value, digits", GOLDEN, ids=lambda part: type(part).__name__)
def test_what_is_too_short_is_refused(value: Any, digits: str) -> None:
    data = bytes.fromhex(digits)
    fixed = {"FileAllInformation": 100, "FileFsAttributeInformation": 12, "FileFsVolumeInformation": 18}
    for size in range(fixed.get(type(value).__name__, len(data))):
        with pytest.raises(DecodeError):
            type(value).decode(data[:size])


@given(NAMES, U64, U64, U64, U64, U32, I64, I64, U32)
def test_any_file_survives_the_wire(
    name: str,
    created: int,
    accessed: int,
    written: int,
    changed: int,
    attributes: int,
    size: int,
    room: int,
    links: int,
) -> None:
    information = fscc.FileAllInformation(
        fscc.FileBasicInformation(created, accessed, written, changed, attributes),
        fscc.FileStandardInformation(room, size, links, 0, 1),
        fscc.FileInternalInformation(created),
        attributes,
        links,
        size,
        links,
        attributes,
        name,
    )
    assert fscc.FileAllInformation.decode(information.encode()) == information


def test_a_name_that_the_buffer_cut_is_given_as_far_as_it_came() -> None:
    value, digits = GOLDEN[-1]
    cut = fscc.FileAllInformation.decode(bytes.fromhex(digits)[:-2])
    assert cut.file_name == "\\"
    assert cut.basic == value.basic
    assert fscc.FileFsAttributeInformation.decode(GOLDEN[8][0].encode()[:-3]).file_system_name == "NT"
    assert fscc.FileFsVolumeInformation.decode(GOLDEN[9][0].encode()[:-2]).volume_label == ""


@pytest.mark.parametrize("given_id, known", [(5, 5), (0, 0), (2**64 - 1, 0)])
def test_file_ids_that_are_none_count_as_unknown(given_id: int, known: int) -> None:
    assert fscc.known_file_id(given_id) == known
