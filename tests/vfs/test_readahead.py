"""The read-ahead policy alone: reads in, ranges out."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from smbfuse.vfs.readahead import FIRST_WINDOW, Range, Readahead

KIB, MIB = 1 << 10, 1 << 20
HUGE = 1 << 40
ROOM = 1 << 40


def sequential(policy: Readahead, start: int, reads: int, *, step: int = 128 * KIB, size: int = HUGE) -> list[Range]:
    ranges: list[Range] = []
    for number in range(reads):
        offset = start + number * step
        if not policy.follows(offset, offset + step):
            ranges += policy.advise(offset, offset + step, size, ROOM)
    return ranges


def test_a_reader_from_the_start_gets_a_window_that_grows_to_the_maximum() -> None:
    policy = Readahead(MIB, 16 * MIB)
    ranges = sequential(policy, 0, 800)
    assert ranges[0] == (128 * KIB, 128 * KIB + FIRST_WINDOW)
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert start == end  # nothing twice, nothing left out
    read = 800 * 128 * KIB
    assert 15 * MIB <= ranges[-1][1] - read <= 16 * MIB


def test_a_grown_window_is_filled_in_whole_requests() -> None:
    policy = Readahead(MIB, 16 * MIB)
    ranges = sequential(policy, 0, 800)
    assert all(end % MIB == 0 for _, end in ranges[8:])
    assert len(ranges) < 800 / 4  # most reads cost a few comparisons


def test_nothing_is_read_ahead_beyond_the_end() -> None:
    ranges = sequential(Readahead(MIB, 16 * MIB), 0, 80, size=10 * MIB)
    assert max(end for _, end in ranges) == 10 * MIB


def test_a_random_reader_gets_nothing() -> None:
    policy = Readahead(MIB, 16 * MIB)
    places = random.Random(7).sample(range(1, 10_000), 500)
    assert [r for place in places for r in policy.advise(place * 4 * MIB, place * 4 * MIB + 4096, HUGE, ROOM)] == []


def test_a_reader_that_begins_in_the_middle_is_followed_from_its_second_read() -> None:
    policy = Readahead(MIB, 16 * MIB)
    assert policy.advise(700 * MIB, 700 * MIB + 4096, HUGE, ROOM) == ()
    assert policy.advise(700 * MIB + 4096, 700 * MIB + 8192, HUGE, ROOM)[0][0] == 700 * MIB + 8192


def test_requests_that_overtake_each_other_are_one_reader() -> None:
    policy = Readahead(MIB, 16 * MIB)
    order = list(range(64))
    shuffled = [
        place for start in range(0, 64, 4) for place in random.Random(start).sample(order[start : start + 4], 4)
    ]
    ranges: list[Range] = []
    for place in shuffled:
        offset = place * 128 * KIB
        if not policy.follows(offset, offset + 128 * KIB):
            ranges += policy.advise(offset, offset + 128 * KIB, HUGE, ROOM)
    assert ranges[-1][1] - 8 * MIB >= 4 * MIB


def test_two_readers_of_one_file_are_told_apart() -> None:
    policy = Readahead(MIB, 4 * MIB)
    for number in range(40):
        for base in (0, 900 * MIB):
            offset = base + number * 128 * KIB
            ranges = policy.advise(offset, offset + 128 * KIB, HUGE, ROOM)
            for start, _ in ranges:
                assert base <= start <= base + 20 * MIB
    sequential_end = 40 * 128 * KIB
    assert policy.advise(sequential_end, sequential_end + 4096, HUGE, ROOM) is not None


def test_reading_backwards_is_read_ahead_backwards() -> None:
    policy = Readahead(MIB, 4 * MIB)
    ranges: list[Range] = []
    for number in range(40, 0, -1):
        offset = 100 * MIB + number * 128 * KIB
        ranges += policy.advise(offset, offset + 128 * KIB, HUGE, ROOM)
    assert all(end > start for start, end in ranges)
    assert ranges[-1][0] < 100 * MIB + 128 * KIB
    assert max(end for _, end in ranges) <= 100 * MIB + 41 * 128 * KIB


def test_steps_of_one_size_are_foreseen() -> None:
    policy = Readahead(MIB, 4 * MIB)
    places = [number * 10 * MIB + MIB for number in range(5)]
    *_, ranges = (policy.advise(place, place + 4096, HUGE, ROOM) for place in places)
    assert ranges[0] == (5 * 10 * MIB + MIB, 5 * 10 * MIB + MIB + 4096)


def test_no_more_than_the_room_is_asked_for_and_the_rest_later() -> None:
    policy = Readahead(MIB, 16 * MIB)
    assert policy.advise(0, 128 * KIB, HUGE, 0) == ()
    assert policy.advise(128 * KIB, 256 * KIB, HUGE, 900 * KIB) == ((256 * KIB, MIB),)
    assert policy.follows(256 * KIB, 512 * KIB)
    assert not policy.follows(512 * KIB, 640 * KIB)
    assert policy.advise(512 * KIB, 640 * KIB, HUGE, ROOM)[0][0] == MIB


def test_it_can_be_switched_off() -> None:
    assert sequential(Readahead(MIB, 0), 0, 100) == []


@given(st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(1, 1 << 20)), max_size=40), st.integers(0, 1 << 24))
def test_every_range_lies_in_the_file_and_in_the_room(reads: list[tuple[int, int]], room: int) -> None:
    policy = Readahead(MIB, 4 * MIB)
    size = (1 << 24) + (1 << 20)
    for offset, length in reads:
        if policy.follows(offset, offset + length):
            continue
        ranges = policy.advise(offset, offset + length, size, room)
        assert all(0 <= start < end <= size for start, end in ranges)
        assert sum(end - start for start, end in ranges) <= room


def test_requests_grow_with_what_the_link_is_found_to_carry() -> None:
    readahead = Readahead(128 << 10, 8 << 20)
    fetched: list[int] = []
    for offset in range(0, 32 << 20, 128 << 10):
        if offset == 16 << 20:
            readahead.request = 1 << 20
        if not readahead.follows(offset, offset + (128 << 10)):
            ranges = readahead.advise(offset, offset + (128 << 10), 64 << 20, 16 << 20)
            fetched += [stop - start for start, stop in ranges]
    assert 256 << 10 in fetched
    assert fetched[-1] == 1 << 20
