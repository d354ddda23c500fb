"""The POSIX extensions of 3.1.1: golden bytes, round trips, and pages that lead astray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.descriptor import Sid, unix_group, unix_user
from smbfuse.wire.smb2.negotiate import NegotiateContext
from smbfuse.wire.smb2.posix import (
    FileFsPosixInformation,
    PosixAttributes,
    PosixEntry,
    PosixInformation,
    PosixType,
    decode_posix_attributes,
    decode_posix_information,
    decode_posix_page,
    encode_posix_page,
    posix_extensions_available,
    posix_open,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
SIDS = st.builds(Sid, st.integers(0, 2**48 - 1), st.lists(U32, max_size=15).map(tuple)).map(Sid.encode)
ATTRIBUTES = st.builds(PosixAttributes, U32, U32, U32, SIDS, SIDS)
INFORMATION = st.builds(PosixInformation, U64, U64, U64, U64, I64, I64, U32, U64, U32, ATTRIBUTES)
NAMES = st.lists(st.integers(0, 0xFFFF), max_size=12).map(
    lambda units: b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass")
)
ENTRIES = st.lists(st.builds(PosixEntry, NAMES, INFORMATION), max_size=5)

POSIX = PosixAttributes(2, 0, PosixType.SYMLINK << 12 | 0o777, unix_user(1000).encode(), unix_group(100).encode())
FOUND = PosixInformation(1, 2, 3, 4, 5, 4096, 0x400, 77, 2049, POSIX)

POSIX_BYTES = "02000000 00000000 ff210000 0102000000000016 01000000e8030000 0102000000000016 0200000064000000"
FOUND_BYTES = (
    "0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000 0010000000000000"
    "00040000 4d00000000000000 01080000 00000000" + POSIX_BYTES
)


def test_both_contexts_bear_the_name_of_the_extensions() -> None:
    name = bytes.fromhex("93ad25509cb411e7b42383de968bcd7c")
    assert posix_extensions_available() == NegotiateContext(0x100, name)
    assert posix_open(0o100644) == (name, bytes.fromhex("a4010000"))


def test_golden_bytes() -> None:
    assert POSIX.encode() == bytes.fromhex(POSIX_BYTES)
    assert decode_posix_attributes(bytes.fromhex(POSIX_BYTES)) == POSIX
    assert FOUND.encode() == bytes.fromhex(FOUND_BYTES)
    assert decode_posix_information(bytes.fromhex(FOUND_BYTES)) == FOUND


def test_golden_page() -> None:
    entry = "00000000" + FOUND_BYTES + "04000000 e9006200"
    page = bytes.fromhex("80000000" + entry + "00000000" + entry)
    assert encode_posix_page([PosixEntry("éb", FOUND)] * 2) == page
    assert decode_posix_page(page) == [PosixEntry("éb", FOUND)] * 2


def test_a_mode_tells_permissions_and_type() -> None:
    assert (POSIX.permissions, POSIX.type) == (0o777, PosixType.SYMLINK)
    assert POSIX._replace(mode=0o104755).permissions == 0o4755


@given(INFORMATION)
def test_any_information_survives_the_wire_and_no_cut_does(found: PosixInformation) -> None:
    data = found.encode()
    assert decode_posix_information(memoryview(data)) == found
    for size in range(0, len(data), 7):
        with pytest.raises(DecodeError):
            decode_posix_information(data[:size])


@given(ENTRIES)
def test_any_page_survives_the_wire(entries: list[PosixEntry]) -> None:
    assert decode_posix_page(memoryview(encode_posix_page(entries))) == entries


@pytest.mark.parametrize("step", [1, 8, 100, 4096])
def test_a_page_whose_entries_overlap_or_lead_out_of_it_is_refused(step: int) -> None:
    page = bytearray(encode_posix_page([PosixEntry("name", FOUND)] * 2))
    page[:4] = step.to_bytes(4, "little")
    with pytest.raises(DecodeError):
        decode_posix_page(page)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_page_or_refused(page: bytes) -> None:
    try:
        decode_posix_page(page)
    except DecodeError:
        pass


def test_the_volume() -> None:
    data = bytes.fromhex(
        "00100000 00040000 e803000000000000 f401000000000000 9001000000000000"
        "6400000000000000 3200000000000000 0900000000000000"
    )
    volume = FileFsPosixInformation.decode(data)
    assert volume == FileFsPosixInformation(4096, 1024, 1000, 500, 400, 100, 50, 9)
    assert volume.encode() == data
