"""Transactions in pieces: nothing is lost in cutting, and no response goes on for ever."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.engine.transactions import Assembly, cut
from smbfuse.errors import DecodeError
from smbfuse.wire.smb1.header import HEADER_SIZE, Command
from smbfuse.wire.smb1.message import UNICODE
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest


def request(parameters: bytes, data: bytes = b"") -> TransactionRequest:
    return TransactionRequest(Command.TRANSACTION2, (5,), parameters, data, len(parameters), len(data), 2, 1000)


def part(parameters: bytes, at: int, data: bytes, data_at: int, totals: tuple[int, int]) -> TransactionPart:
    return TransactionPart(Command.TRANSACTION2, *totals, parameters, at, data, data_at)


@given(st.binary(max_size=4000), st.binary(max_size=4000), st.integers(200, 5000))
def test_what_is_cut_fits_and_is_complete(parameters: bytes, data: bytes, buffer: int) -> None:
    first, later = cut(request(parameters, data), buffer)
    assert HEADER_SIZE + len(first.encode_block(HEADER_SIZE, UNICODE)) <= buffer
    together, data_together = bytearray(first.parameters), bytearray(first.data)
    for piece in later:
        assert HEADER_SIZE + len(piece.encode_block(HEADER_SIZE, UNICODE)) <= buffer
        assert (piece.parameter_displacement, piece.data_displacement) == (len(together), len(data_together))
        assert (piece.total_parameter_count, piece.total_data_count) == (len(parameters), len(data))
        together += piece.parameters
        data_together += piece.data
    assert bytes(together) == parameters
    assert bytes(data_together) == data


def test_a_response_in_one_part_is_not_copied() -> None:
    backing = bytearray(b"parametersdata")
    whole = part(memoryview(backing)[:10], 0, memoryview(backing)[10:], 0, (10, 4))  # type: ignore[arg-type]
    assembly = Assembly(10, 100)
    assert assembly.add(whole)
    backing[0] = ord("P")
    assert [bytes(view) for view in assembly.result()] == [b"Parameters", b"data"]


def test_parts_are_put_together_by_displacement_in_any_order() -> None:
    assembly = Assembly(4, 6)
    assert not assembly.add(part(b"", 0, b"def", 3, (4, 6)))
    assert not assembly.add(part(b"1234", 0, b"", 0, (4, 6)))
    assert assembly.add(part(b"", 4, b"abc", 0, (4, 6)))
    assert [bytes(view) for view in assembly.result()] == [b"1234", b"abcdef"]


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(1, 59)), st.randoms(use_true_random=False))
def test_parts_in_any_order_leave_no_gap(data: bytes, cuts: list[int], order: Random) -> None:
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    ranges = list(pairwise(bounds))
    order.shuffle(ranges)
    assembly = Assembly(0, len(data))
    complete = [assembly.add(part(b"", 0, data[start:end], start, (0, len(data)))) for start, end in ranges]
    assert complete == [False] * (len(ranges) - 1) + [True]
    assert bytes(assembly.result()[1]) == data


def test_totals_may_shrink_on_the_way() -> None:
    assembly = Assembly(0, 100)
    assert not assembly.add(part(b"", 0, b"abc", 0, (0, 10)))
    assert assembly.add(part(b"", 0, b"d", 3, (0, 4)))
    assert bytes(assembly.result()[1]) == b"abcd"


def test_an_empty_response_is_complete() -> None:
    assembly = Assembly(2, 10)
    assert assembly.add(part(b"", 0, b"", 0, (0, 0)))
    assert [bytes(view) for view in assembly.result()] == [b"", b""]


HOSTILE = {
    "more parameters than were allowed": [part(b"", 0, b"", 0, (3, 0))],
    "more data than was allowed": [part(b"", 0, b"a", 0, (0, 101))],
    "totals that grow": [part(b"", 0, b"a", 0, (0, 5)), part(b"", 0, b"a", 1, (0, 6))],
    "a part without content": [part(b"", 0, b"", 0, (0, 5))],
    "the same part again": [part(b"ab", 0, b"", 0, (2, 5)), part(b"ab", 0, b"", 0, (2, 5))],
    "the same data again": [part(b"", 0, b"abc", 0, (0, 6)), part(b"", 0, b"abc", 0, (0, 6))],
    "the same data again, behind a gap": [part(b"", 0, b"def", 3, (0, 6)), part(b"", 0, b"def", 3, (0, 6))],
    "data that reach into what came before": [part(b"", 0, b"abc", 0, (0, 6)), part(b"", 0, b"cde", 2, (0, 6))],
    "data that reach into what came behind": [part(b"", 0, b"def", 3, (0, 6)), part(b"", 0, b"bcd", 1, (0, 6))],
    "data beyond the total": [part(b"", 0, b"abc", 0, (0, 6)), part(b"", 0, b"def", 4, (0, 6))],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_response_is_refused(what: str) -> None:
    assembly = Assembly(2, 100)
    *before, last = HOSTILE[what]
    for piece in before:
        assert not assembly.add(piece)
    with pytest.raises(DecodeError):
        assembly.add(last)
