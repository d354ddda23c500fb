"""Directory pages: every class of entries, any names, and pages that lead astray."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.dirlist import DirectoryEntry, decode_page, encode_page
from smbfuse.wire.fscc import FileInformation

CLASSES = [
    FileInformation.DIRECTORY,
    FileInformation.FULL_DIRECTORY,
    FileInformation.BOTH_DIRECTORY,
    FileInformation.ID_BOTH_DIRECTORY,
    FileInformation.ID_FULL_DIRECTORY,
]
HAVE_FILE_ID = {FileInformation.ID_BOTH_DIRECTORY, FileInformation.ID_FULL_DIRECTORY}

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.lists(st.integers(0, 0xFFFF), max_size=12).map(
    lambda units: b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass")
)
ENTRIES = st.lists(st.builds(DirectoryEntry, NAMES, U64, U64, U64, U64, I64, I64, U32, U32, U64), max_size=6)

ID_BOTH = DirectoryEntry("é.b", 1, 2, 3, 4, 5, 4096, 0x20, 6, 0x0102030405060708)
ID_BOTH_BYTES = bytes.fromhex(
    "00000000 00000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000"
    "0010000000000000 20000000 06000000 06000000 00 00" + "00" * 24 + "0000 0807060504030201 e9002e006200"
)


def test_golden_bytes_of_the_class_that_is_asked_for() -> None:
    assert encode_page(FileInformation.ID_BOTH_DIRECTORY, [ID_BOTH]) == ID_BOTH_BYTES
    assert decode_page(FileInformation.ID_BOTH_DIRECTORY, ID_BOTH_BYTES) == [ID_BOTH]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
@given(entries=ENTRIES)
def test_any_page_survives_the_wire(kind: FileInformation, entries: list[DirectoryEntry]) -> None:
    expected = [
        entry._replace(
            ea_size=0 if kind is FileInformation.DIRECTORY else entry.ea_size,
            file_id=entry.file_id if kind in HAVE_FILE_ID else 0,
        )
        for entry in entries
    ]
    assert decode_page(kind, memoryview(encode_page(kind, entries))) == expected


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
@given(page=st.binary(max_size=300))
def test_any_bytes_are_a_page_or_refused(kind: FileInformation, page: bytes) -> None:
    try:
        decode_page(kind, page)
    except DecodeError:
        pass


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_a_page_cut_anywhere_is_refused(kind: FileInformation) -> None:
    first, page = encode_page(kind, [ID_BOTH]), encode_page(kind, [ID_BOTH, ID_BOTH])
    second_at = len(page) - len(first)
    for size in range(1, len(page)):
        if len(first) <= size <= second_at:
            assert len(decode_page(kind, page[:size])) == 1  # as if it were the last one; see the next test
        else:
            with pytest.raises(DecodeError):
                decode_page(kind, page[:size])


@pytest.mark.parametrize("padding", [0, 7])
def test_a_last_entry_that_points_to_its_end_is_the_last_one(padding: int) -> None:
    # Windows 9x and NT do so in SMB1.
    page = bytearray(ID_BOTH_BYTES)
    page[:4] = (len(page) + padding).to_bytes(4, "little")
    assert decode_page(FileInformation.ID_BOTH_DIRECTORY, page) == [ID_BOTH]


@pytest.mark.parametrize("step", [1, 8, 103, 104, 109, 1000, 0xFFFFFFFF], ids=str)
def test_an_entry_that_leads_astray_is_refused(step: int) -> None:
    page = bytearray(encode_page(FileInformation.ID_BOTH_DIRECTORY, [ID_BOTH, ID_BOTH]))
    page[:4] = step.to_bytes(4, "little")
    with pytest.raises(DecodeError):
        decode_page(FileInformation.ID_BOTH_DIRECTORY, page)


@pytest.mark.parametrize("length", [1, 5, 7, 8, 0xFFFFFFFF], ids=str)
def test_a_name_that_is_odd_or_leaves_its_entry_is_refused(length: int) -> None:
    page = bytearray(ID_BOTH_BYTES)
    page[60:64] = length.to_bytes(4, "little")
    with pytest.raises(DecodeError):
        decode_page(FileInformation.ID_BOTH_DIRECTORY, page)


def test_the_tag_of_a_reparse_point_is_where_the_size_of_attributes_would_be() -> None:
    assert ID_BOTH.reparse_tag == 0
    assert ID_BOTH._replace(file_attributes=0x420, ea_size=0xA000000C).reparse_tag == 0xA000000C


def shortest_s(entries: list[DirectoryEntry]) -> float:
    """Return how long the fastest of several readings of one page takes: what the code needs, and not the machine."""
    page = encode_page(FileInformation.ID_BOTH_DIRECTORY, entries)
    took = []
    for _ in range(7):
        started = time.perf_counter()
        assert decode_page(FileInformation.ID_BOTH_DIRECTORY, page) == entries
        took.append(time.perf_counter() - started)
    return min(took)


def test_an_entry_of_a_long_page_costs_no_more_than_one_of_a_short_page() -> None:
    entries = [ID_BOTH._replace(file_name=f"a name of usual length {number}.txt") for number in range(5000)]
    # 10 times as long if each entry costs the same, 100 times if it grows with the page.
    assert shortest_s(entries) < 40 * shortest_s(entries[:500])
