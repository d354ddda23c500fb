"""Chains of extended attributes: golden bytes, round trips, and chains that lead astray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.errors import DecodeError
from smbfuse.wire.fscc_ea import (
    LARGEST_VALUE,
    LONGEST_NAME,
    ExtendedAttribute,
    decode_attributes,
    encode_attributes,
    encode_name,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
CHAINS = st.lists(st.builds(ExtendedAttribute, NAMES, st.binary(max_size=40), st.integers(0, 255)), max_size=5)


def test_golden_bytes() -> None:
    attributes = [ExtendedAttribute("A", b"xyz"), ExtendedAttribute("bé", b"", 0x80)]
    data = bytes.fromhex("10000000 00 01 0300 41 00 78797a 000000" + "00000000 80 03 0000 62c3a9 00")
    assert encode_attributes(attributes) == data
    assert decode_attributes(data) == attributes


def test_no_attributes_are_no_bytes() -> None:
    assert encode_attributes([]) == b""
    assert decode_attributes(b"") == []


@given(CHAINS)
def test_any_chain_survives_the_wire(attributes: list[ExtendedAttribute]) -> None:
    assert decode_attributes(memoryview(encode_attributes(attributes))) == attributes


def test_bytes_that_are_no_utf8_survive_in_names() -> None:
    (attribute,) = decode_attributes(bytes.fromhex("00000000 00 02 0100 ff41 00 31"))
    assert attribute.value == b"1"
    assert encode_name(attribute.name) == b"\xffA"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * (LONGEST_NAME + 1), "é" * 128])
def test_what_can_be_no_name_is_not_sent(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        encode_attributes([ExtendedAttribute(name, b"1")])


def test_the_largest_value_is_sent_and_no_larger_one() -> None:
    largest = ExtendedAttribute("n", bytes(LARGEST_VALUE))
    assert decode_attributes(encode_attributes([largest])) == [largest]
    with pytest.raises(ValueError, match="too many"):
        encode_attributes([ExtendedAttribute("n", bytes(LARGEST_VALUE + 1))])


@pytest.mark.parametrize(
    "digits",
    [
        "00000000 00 01 03",  # cut in its head
        "40000000 00 01 0300 41 00 78797a",  # the next entry lies outside
        "00000000 00 05 0000 41 00",  # a name that ends outside
        "00000000 00 01 0300 41 00 78",  # a value that ends outside
        "08000000 00 01 0300 41 00 78797a 000000",  # the next entry lies in this one
    ],
)
def test_chains_that_lead_astray_are_refused(digits: str) -> None:
    with pytest.raises(DecodeError):
        decode_attributes(bytes.fromhex(digits))


@given(st.binary(max_size=120))
def test_any_bytes_are_a_chain_or_refused(data: bytes) -> None:
    try:
        decode_attributes(data)
    except DecodeError:
        pass
