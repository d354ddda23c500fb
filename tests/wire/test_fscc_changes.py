"""What changes a file: golden bytes with distinguishable values, round trips, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.fscc_changes import FileDispositionInformation, FileEndOfFileInformation, FileRenameInformation

# [MS-FSCC] 2.4.13, 2.4.11, 2.4.42.2
GOLDEN: dict[str, tuple[Any, str]] = {
    "size": (FileEndOfFileInformation(0x0102030405060708), "0807060504030201"),
    "disposition": (FileDispositionInformation(1), "01"),
    "rename": (
        FileRenameInformation(True, "a\\é"),
        "01 00000000000000 0000000000000000 06000000 61005c00e900",
    ),
    "a name of one letter is padded to what Windows takes": (
        FileRenameInformation(False, "a"),
        "00 00000000000000 0000000000000000 02000000 61000000",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_bytes(case: str) -> None:
    value, digits = GOLDEN[case]
    data = bytes.fromhex(digits)
    assert value.encode().hex() == data.hex()
    assert type(value).decode(data) == value


@pytest.mark.parametrize("case", GOLDEN)
def test_every_cut_of_the_fixed_part_is_refused(case: str) -> None:
    value, digits = GOLDEN[case]
    data = bytes.fromhex(digits)
    for size in range(min(len(data), value.STRUCT.size)):
        with pytest.raises(DecodeError):
            type(value).decode(data[:size])


def test_a_name_that_is_cut_off_is_refused() -> None:
    with pytest.raises(DecodeError):
        FileRenameInformation.decode(FileRenameInformation(True, "long enough").encode()[:-1])


@given(st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_name_survives_the_wire(replace: bool, name: str) -> None:
    value = FileRenameInformation(replace, name)
    assert FileRenameInformation.decode(value.encode()) == value
