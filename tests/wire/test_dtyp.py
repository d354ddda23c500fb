"""FILETIMEs and UTF-16 names: exact to the last digit, whatever the server sends."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.wire.dtyp import LARGEST_FILETIME, decode_utf16, encode_utf16, filetime_to_ns, ns_to_filetime

SECOND = 10**9


@pytest.mark.parametrize(
    "filetime, ns",
    [
        (116444736000000000, 0),
        (116444736000000001, 100),
        (116444735999999999, -100),
        (1, -11644473600 * SECOND + 100),
        (LARGEST_FILETIME, (LARGEST_FILETIME - 116444736000000000) * 100),
        (0, None),
        (LARGEST_FILETIME + 1, None),
        (2**64 - 2, None),
        (2**64 - 1, None),
    ],
)
def test_a_filetime_is_counted_from_1601_in_steps_of_100_ns(filetime: int, ns: int | None) -> None:
    assert filetime_to_ns(filetime) == ns


# From smbprotocol's tests, and from Microsoft's "anatomy of signing and cryptographic keys" (2017), appendix.
@pytest.mark.parametrize(
    "filetime, utc",
    [
        ("540e635e2dfab701", "1993-06-11T07:52:34.000034"),
        ("f63fc0d15e5ac824", "9999-12-31T23:59:59.999999"),
        ("5e70274a6e239301", "1960-08-01T22:07:01.186774"),
        ("a1a1f5adcbaed001", "2015-06-24T22:18:21.389456"),
    ],
)
def test_published_filetimes(filetime: str, utc: str) -> None:
    ns = filetime_to_ns(int.from_bytes(bytes.fromhex(filetime), "little"))
    assert ns is not None
    since = datetime.fromisoformat(utc).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert ns // 1000 == (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


@given(st.integers(1, LARGEST_FILETIME))
def test_no_digit_is_lost_on_the_way_to_posix_and_back(filetime: int) -> None:
    ns = filetime_to_ns(filetime)
    assert ns is not None
    assert ns_to_filetime(ns) == filetime


@given(st.integers(-(2**80), 2**80))
def test_every_posix_time_gives_a_filetime_that_is_a_time(ns: int) -> None:
    assert 1 <= ns_to_filetime(ns) <= LARGEST_FILETIME


def test_no_time_is_the_filetime_zero() -> None:
    assert ns_to_filetime(None) == 0


@given(st.binary(max_size=60).filter(lambda data: len(data) % 2 == 0))
def test_any_16_bit_units_are_a_name(data: bytes) -> None:
    assert encode_utf16(decode_utf16(data)) == data


def test_an_odd_last_byte_is_dropped() -> None:
    assert decode_utf16(memoryview(b"a\0b\0c")) == "ab"
