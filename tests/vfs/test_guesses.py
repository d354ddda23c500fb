"""The two guesses at what a program asks for next, without a server."""

import random

import pytest

from smbfuse.vfs.guesses import (
    FOLDERS,
    LARGEST_WINDOW,
    MISSES,
    MISSES_APART_S,
    MISSES_MAX,
    USEFUL,
    WINDOW_BYTES,
    MissedLookups,
    Siblings,
)

SMALL = 4096


def misses_until_listed(policy: MissedLookups, folder: int = 7, *, most: int = 2 * MISSES_MAX) -> int:
    return next(number for number in range(1, most) if policy.missed(folder, now=0.0))


def walked(siblings: Siblings, names: list[bytes], *, pace_s: float = 0.001, room: int = 100) -> list[bytes]:
    """Open files one after the other; return what was advised, in order."""
    advised: list[bytes] = []
    for number, name in enumerate(names):
        advised += siblings.opened(name, number * pace_s, lambda: room)
    return advised


def walked_until(opened: list[bytes], number: int) -> list[bytes]:
    """Return what was advised before one of the files was opened."""
    return walked(Siblings(files(PADDED), 1.0), opened[:number])


def files(names: list[bytes], size: int = SMALL) -> list[tuple[bytes, int]]:
    return [(name, size) for name in names]


PADDED = [b"%05d" % number for number in range(200)]
COUNTED = [b"f%d.jpg" % number for number in range(1, 200)]


# -- names looked up


def test_the_third_of_several_lookups_makes_a_listing_worth_while() -> None:
    assert misses_until_listed(MissedLookups()) == MISSES == 3


def test_folders_are_counted_apart_and_old_misses_not_at_all() -> None:
    policy = MissedLookups()
    assert not any(policy.missed(folder, 0.0) for folder in (1, 2, 1, 2))
    assert not any(policy.missed(3, now) for now in (0.0, 0.1, 0.2 + MISSES_APART_S, 0.3 + MISSES_APART_S))
    assert policy.missed(3, 0.4 + MISSES_APART_S)


def test_listings_that_answer_nothing_become_rare() -> None:
    policy = MissedLookups()
    assert [misses_until_listed(policy) for _ in range(4)] == [3, 6, 12, 24]
    for _ in range(20):
        misses_until_listed(policy)
    assert misses_until_listed(policy) == MISSES_MAX


@pytest.mark.parametrize("entries, answers", [(10, USEFUL), (64_000, USEFUL + 1000)])
def test_a_listing_that_answered_enough_for_its_size_was_worth_while(entries: int, answers: int) -> None:
    policy = MissedLookups()
    misses_until_listed(policy)
    for _ in range(answers - 1):
        policy.answered(7, entries)
    assert misses_until_listed(policy) == 6
    for _ in range(answers):
        policy.answered(7, entries)
    assert misses_until_listed(policy) == MISSES


def test_a_walk_over_many_folders_costs_no_memory_for_ever() -> None:
    policy = MissedLookups()
    policy.missed(0, 0.0)
    policy.missed(0, 0.0)
    for folder in range(1, FOLDERS + 1):
        policy.missed(folder, 0.0)
    assert not policy.missed(0, 0.0)  # it was forgotten, and begins anew
    policy.answered(10**6, 5)  # never heard of


# -- files opened in order


@pytest.mark.parametrize(
    "listed, opened",
    [
        pytest.param([b"c", b"a", b"d", b"b", b"e", b"0"], [b"c", b"a", b"d", b"b", b"e", b"0"], id="listing"),
        pytest.param(list(reversed(PADDED)), PADDED, id="sorted"),
        pytest.param(sorted(COUNTED), COUNTED, id="counted"),
        pytest.param(
            [b"c", b"a", b"d", b"b", b"e", b"0"], [b"0", b"e", b"b", b"d", b"a", b"c"], id="listing backwards"
        ),
        pytest.param(random.Random(3).sample(PADDED, 200), list(reversed(PADDED)), id="sorted backwards"),
        pytest.param(sorted(COUNTED), list(reversed(COUNTED)), id="counted backwards"),
    ],
)
def test_an_order_is_recognised_after_two_successors(listed: list[bytes], opened: list[bytes]) -> None:
    siblings = Siblings(files(listed), 1.0)
    assert walked(siblings, opened[:2]) == []
    assert not siblings.running
    assert list(siblings.opened(opened[2], 0.003, lambda: 100))[:2] == opened[3:5]
    assert siblings.running


@pytest.mark.parametrize("listed", [PADDED, list(reversed(PADDED))])
def test_all_that_follows_is_advised_once_and_never_more_than_the_window(listed: list[bytes]) -> None:
    siblings = Siblings(files(listed), 1.0)
    ahead: set[bytes] = set()
    seen: list[bytes] = []
    for number, name in enumerate(PADDED):
        ahead.discard(name)
        advised = siblings.opened(name, number * 0.001, lambda: 100)
        seen += advised
        ahead.update(advised)
        assert len(ahead) <= LARGEST_WINDOW
    assert seen == PADDED[3:]
    assert siblings.running


def test_a_window_is_bounded_in_bytes() -> None:
    siblings = Siblings(files(PADDED, 60_000), 1.0)
    advised = walked(siblings, PADDED[:60])
    assert len(advised) <= 57 + WINDOW_BYTES // 60_000
    assert len(advised) > 57


def test_a_wrong_guess_ends_it() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    walked(siblings, PADDED[:5])
    assert siblings.running
    assert siblings.opened(PADDED[150], 0.01, lambda: 100) == ()
    assert not siblings.running


def test_threads_that_overtake_each_other_do_not_end_it() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    disordered = PADDED[:4] + [name for pair in zip(PADDED[5:99:2], PADDED[4:98:2], strict=True) for name in pair]
    advised = walked(siblings, disordered)
    assert siblings.running
    assert len(advised) == len(set(advised)) > 90


def test_threads_that_share_a_stack_are_followed() -> None:
    """As `rg` opens files: each thread takes the last name that is left, and some are held up for a while."""
    shared = random.Random(8)
    for threads in (2, 4, 8):
        siblings = Siblings(files(PADDED), 1.0)
        left, taken, opened = list(PADDED), list[bytes](), list[bytes]()
        while left or taken:
            while left and len(taken) < threads:
                taken.append(left.pop())
            opened.append(taken.pop(shared.randrange(len(taken))))
        advised = walked(siblings, opened)
        assert len(advised) == len(set(advised))
        assert len(set(advised)) > 150, threads
        in_time = [name for number, name in enumerate(opened) if name in walked_until(opened, number)]
        assert len(in_time) > 150, threads


def test_names_that_were_overtaken_by_far_do_not_hold_up_the_others() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    passed = [name for number, name in enumerate(PADDED) if number % 5]  # each fifth is never opened
    advised = walked(siblings, passed)
    assert siblings.running
    assert set(advised) >= set(passed[20:])


def test_what_was_not_advised_says_nothing_and_a_second_open_neither() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    walked(siblings, PADDED[:4])
    assert siblings.opened(b"large.iso", 0.01, lambda: 100) == ()
    assert siblings.opened(PADDED[3], 0.01, lambda: 100) == ()
    assert siblings.running


def test_files_in_no_order_are_not_run_ahead_of() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    assert walked(siblings, [PADDED[number * 37 % 200] for number in range(200)]) == []


def test_a_reader_too_slow_to_use_them_gets_none() -> None:
    assert walked(Siblings(files(PADDED), 1.0), PADDED, pace_s=0.6) == []
    advised = walked(Siblings(files(PADDED), 1.0), PADDED[:40], pace_s=0.1)
    assert len(advised) <= 37 + 5  # five are opened within half of a second


def test_no_room_delays_the_advice_but_loses_nothing() -> None:
    siblings = Siblings(files(PADDED), 1.0)
    assert walked(siblings, PADDED[:10], room=0) == []
    assert siblings.opened(PADDED[10], 0.011, lambda: 3) == PADDED[11:14]


def test_the_end_of_the_folder() -> None:
    siblings = Siblings(files(PADDED[:5]), 1.0)
    assert walked(siblings, PADDED[:5]) == PADDED[3:5]
    assert Siblings([], 1.0).opened(b"a", 0.0, lambda: 100) == ()


@pytest.mark.parametrize("name", [b"", b"no number", b"9" * 255, b"\xff1\n", b"1" * 19])
def test_any_name_is_taken(name: bytes) -> None:
    siblings = Siblings(files([name, b"b", b"c"]), 1.0)
    walked(siblings, [name, b"b", name, b"c", name])
