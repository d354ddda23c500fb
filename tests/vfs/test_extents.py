"""Dirty extents against a plain model: one byte and one mark for every offset."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smbfuse.vfs.extents import JOINED, OVERHEAD, SMALL, Extents, Piece

SPACE = 400
OFFSETS = st.integers(0, SPACE)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), OFFSETS, st.integers(0, 60)),
        st.tuples(st.just("append"), st.just(0), st.integers(1, 30)),
        st.tuples(st.just("under"), OFFSETS, st.integers(1, 60)),
        st.tuples(st.just("cut"), OFFSETS, OFFSETS),
        st.tuples(st.just("cut on"), OFFSETS, st.just(0)),
    ),
    max_size=40,
)


class Model:
    """What every offset holds: (byte, mark), or nothing."""

    def __init__(self) -> None:
        self.cells: dict[int, tuple[int, int]] = {}

    def put(self, offset: int, data: bytes, mark: int) -> None:
        self.cells.update({offset + index: (byte, mark) for index, byte in enumerate(data)})

    def put_under(self, offset: int, data: bytes, mark: int) -> None:
        for index, byte in enumerate(data):
            self.cells.setdefault(offset + index, (byte, mark))

    def cut(self, start: int, end: int | None) -> dict[int, int]:
        taken = {at: cell[0] for at, cell in self.cells.items() if start <= at and (end is None or at < end)}
        for at in taken:
            del self.cells[at]
        return taken


def spread(pieces: list[Piece]) -> dict[int, int]:
    found: dict[int, int] = {}
    for piece in pieces:
        assert len(piece.data) > 0
        for index, byte in enumerate(bytes(piece.data)):
            assert piece.start + index not in found
            found[piece.start + index] = byte
    return found


def check(extents: Extents, model: Model, request: int) -> None:
    pieces = list(extents.pieces())
    assert spread(pieces) == {at: byte for at, (byte, _) in model.cells.items()}
    assert [piece.start for piece in pieces] == sorted(piece.start for piece in pieces)
    assert extents.length == len(model.cells)
    assert extents.charge == len(model.cells) + OVERHEAD * len(pieces)
    assert extents.end == max(model.cells, default=-1) + 1
    assert bool(extents) == bool(model.cells)
    # A joined piece has the mark of its oldest write: never a newer one than a byte in it.
    for piece in pieces:
        assert piece.mark <= min(model.cells[at][1] for at in range(piece.start, piece.end))
    assert extents.oldest() == min((piece.mark for piece in pieces), default=None)
    chunks = list(extents.chunks(request))
    assert [at for chunk in chunks for at in range(chunk.start, chunk.end)] == sorted(model.cells)
    for chunk in chunks:
        assert chunk.start // request == (chunk.end - 1) // request
        assert chunk.mark <= min(model.cells[at][1] for at in range(chunk.start, chunk.end))
        # As long as can be: it ends at a border, or where nothing follows.
        assert chunk.end % request == 0 or chunk.end not in model.cells
        assert chunk.start % request == 0 or chunk.start - 1 not in model.cells


@given(STEPS, st.sampled_from([1, 7, 64, 1000]), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_extents_hold_what_was_written_last(
    steps: list[tuple[str, int, int]], request: int, randomness: random.Random
) -> None:
    extents, model = Extents(), Model()
    kept: list[tuple[list[Piece], list[bytes]]] = []
    for mark, (step, first, second) in enumerate(steps, start=1):
        if step in ("put", "append", "under"):
            offset = extents.end if step == "append" else first
            data = randomness.randbytes(second)
            if step == "under":
                extents.put_under(Piece(offset, data, mark))
                model.put_under(offset, data, mark)
            else:
                extents.put(offset, data, mark)
                model.put(offset, data, mark)
        else:
            end = None if step == "cut on" else max(first, second)
            assert spread(extents.cut(first, end)) == model.cut(first, end)
        check(extents, model, request)
        low = randomness.randrange(SPACE)
        high = low + randomness.randrange(1, 80)
        found = extents.overlay(low, high)
        assert spread(found) == {at: cell[0] for at, cell in model.cells.items() if low <= at < high}
        assert extents.overlaps(low, high) == bool(found)
        kept.append((found, [bytes(piece.data) for piece in found]))
    # What was read earlier is what it was then, whatever was written since.
    for found, then in kept:
        assert [bytes(piece.data) for piece in found] == then


def test_a_large_write_is_kept_as_it_is() -> None:
    extents = Extents()
    data = bytes(1 << 20)
    extents.put(0, data, 1)
    extents.put(1 << 20, bytes(100), 2)
    (first, *_) = extents.pieces()
    assert first.data is data
    assert [piece.data for piece in extents.cut(0, 1 << 20)] == [data]


def test_lines_that_follow_each_other_are_few_pieces() -> None:
    extents = Extents()
    for line in range(10_000):
        extents.put(line * 10, b"0123456789", line)
    pieces = list(extents.pieces())
    assert len(pieces) <= 100_000 // (JOINED - SMALL) + 1
    assert b"".join(bytes(piece.data) for piece in pieces) == b"0123456789" * 10_000


@pytest.mark.parametrize("keep", [10, 900_000])
def test_a_part_keeps_at_most_twice_its_size_alive(keep: int) -> None:
    extents = Extents()
    extents.put(0, bytes(1 << 20), 1)
    extents.cut(keep)
    ((_, data, _),) = extents.pieces()
    assert len(data) == keep
    assert memoryview(memoryview(data).obj).nbytes <= 2 * keep
