"""What a server tells of a watched folder: golden bytes, round trips, and chains that lead astray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.notify import (
    FileNotifyInformation,
    NotifyAction,
    decode_notifications,
    encode_notifications,
)

NAMES = st.text(st.characters(codec="utf-16-le"), max_size=30)
CHAINS = st.lists(st.builds(FileNotifyInformation, st.integers(0, 0xFFFFFFFF), NAMES), max_size=5)


def test_golden_bytes() -> None:
    told = [
        FileNotifyInformation(NotifyAction.RENAMED_OLD_NAME, "é"),
        FileNotifyInformation(NotifyAction.RENAMED_NEW_NAME, "a\\b"),
    ]
    data = bytes.fromhex(
        "10000000 04000000 02000000 e900 0000"  # NextEntryOffset, Action, FileNameLength, name, pad
        "00000000 05000000 06000000 61005c006200"
    )
    assert encode_notifications(told) == data
    assert decode_notifications(data) == told


def test_nothing_told_is_no_bytes() -> None:
    assert encode_notifications([]) == b""
    assert decode_notifications(b"") == []


@given(CHAINS)
def test_any_chain_survives_the_wire(told: list[FileNotifyInformation]) -> None:
    assert decode_notifications(memoryview(encode_notifications(told))) == told


def test_an_action_of_tomorrow_is_handed_on() -> None:
    assert decode_notifications(bytes.fromhex("00000000 63000000 02000000 6100")) == [FileNotifyInformation(0x63, "a")]


@pytest.mark.parametrize(
    "digits",
    [
        "00000000 01000000 0200",  # cut in its head
        "40000000 01000000 02000000 6100",  # the next entry lies outside
        "00000000 01000000 04000000 6100",  # a name that ends outside
        "0c000000 01000000 02000000 6100 0000 00000000 01000000 00000000",  # the next entry lies in the name
        "04000000 01000000 00000000 00000000 01000000 00000000",  # and in the head
        "00000000 01000000 01000000 61",  # half a character
    ],
)
def test_chains_that_lead_astray_are_refused(digits: str) -> None:
    with pytest.raises(DecodeError):
        decode_notifications(bytes.fromhex(digits))
