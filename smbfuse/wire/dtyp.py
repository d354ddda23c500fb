"""Data types that every dialect shares: FILETIME and GUID-sized identifiers.  [MS-DTYP] 2.3, [MS-FSCC] 2.1."""

from typing import Final

EPOCH_DELTA: Final = 116_444_736_000_000_000  # 1601-01-01 to 1970-01-01 in steps of 100 ns
STEP_NS: Final = 100
LARGEST_FILETIME: Final = 0x7FFFFFFFFFFFFFFF  # [MS-FSCC] 2.1.1: greater values are no times


def filetime_to_ns(filetime: int) -> int | None:
    """Return nanoseconds since 1970 (may be negative), or None for "not known".

    Not known are 0, as servers give for times they do not keep, and what the specification forbids: values above
    0x7FFFFFFFFFFFFFFF (-1 and -2 have a meaning in requests only). Integers throughout: a float would lose digits.
    """
    if not 0 < filetime <= LARGEST_FILETIME:
        return None
    return (filetime - EPOCH_DELTA) * STEP_NS


def ns_to_filetime(ns: int | None) -> int:
    """Return the FILETIME of `ns` nanoseconds since 1970, rounded down to 100 ns; None gives 0.

    Times outside of what a FILETIME holds (1601 to 30828) give the nearest one that is a time.
    """
    if ns is None:
        return 0
    return min(max(ns // STEP_NS + EPOCH_DELTA, 1), LARGEST_FILETIME)


def decode_utf16(data: bytes | bytearray | memoryview) -> str:
    """Return the text of a UTF-16LE field; an odd last byte is dropped, unpaired surrogates are kept.

    Windows file names are any 16-bit units: `surrogatepass` makes a str of them that encodes back to the same bytes.
    """
    return str(data[: len(data) & ~1], "utf-16-le", "surrogatepass")


def encode_utf16(text: str) -> bytes:
    """Return `text` as UTF-16LE without a terminator, unpaired surrogates as they are."""
    return text.encode("utf-16-le", "surrogatepass")
