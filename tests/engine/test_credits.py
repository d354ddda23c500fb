"""The window: nothing leaves that may not, and whatever is granted it never counts below nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.engine.credits import MOST_CREDITS, Window


def test_one_place_serves_one_request_after_the_other() -> None:
    window = Window(1, reserve=1)
    for _ in range(3):
        assert window.admits(1)
        window.take(1)
        assert not window.admits(1)
        assert not window.admits(1, urgent=True)
        window.answered(1)
        window.granted(1)


def test_the_reserve_is_for_the_urgent_while_something_is_in_flight() -> None:
    window = Window(3, reserve=1)
    window.take(1)
    assert window.admits(1)
    assert not window.admits(2)
    assert window.admits(2, urgent=True)


def test_bulk_leaves_room_for_the_small() -> None:
    window = Window(100, reserve=1)
    window.take(80)
    assert not window.admits(4, bulk=True)
    assert window.admits(3, bulk=True)
    assert window.admits(19)
    assert not window.admits(20)


def test_with_nothing_in_flight_everything_that_fits_is_admitted() -> None:
    window = Window(8, reserve=1)
    assert window.admits(8, bulk=True)
    assert not window.admits(9, urgent=True)


def test_places_that_are_granted_without_end_are_not_counted() -> None:
    window = Window(1)
    for _ in range(5):
        window.granted(MOST_CREDITS)
    assert window.available == MOST_CREDITS


def test_a_server_that_takes_places_back_shrinks_the_window() -> None:
    window = Window(4)
    window.take(2)
    window.answered(2)
    window.granted(0)
    assert (window.capacity, window.available) == (2, 2)


def test_what_stands_is_no_reason_to_wait_for_it() -> None:
    window = Window(2)
    window.take(1, standing=True)
    assert (window.capacity, window.available, window.taken) == (1, 1, 0)
    assert window.admits(1, bulk=True)
    assert not window.admits(2)
    window.answered(1, standing=True)
    window.granted(1)
    assert (window.capacity, window.standing) == (2, 0)


@pytest.mark.parametrize("places, reserve, most", [(1, 0, 0), (2, 0, 1), (3, 0, 1), (4, 1, 1), (5, 1, 2), (50, 1, 24)])
@pytest.mark.parametrize("sent_at_once", [True, False])
def test_what_stands_leaves_half_of_the_places_to_the_others(
    places: int, reserve: int, most: int, sent_at_once: bool
) -> None:
    window = Window(places, reserve=reserve)
    for _ in range(most):
        assert window.claim()
        if sent_at_once:
            window.take(1, standing=True)
    assert not window.claim()


def test_a_claim_is_given_back_when_it_was_answered() -> None:
    window = Window(2)
    assert window.claim()
    window.take(1, standing=True)
    window.disclaim()
    assert not window.claim()
    window.answered(1, standing=True)
    window.granted(1)
    assert window.claim()


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30), st.booleans(), st.booleans()), max_size=60))
def test_it_never_counts_below_nothing(steps: list[tuple[int, int, bool, bool]]) -> None:
    window = Window(1, reserve=1)
    in_flight: list[int] = []
    for cost, grant, urgent, bulk in steps:
        if window.admits(cost, urgent=urgent, bulk=bulk):
            window.take(cost)
            in_flight.append(cost)
        elif in_flight:
            window.answered(in_flight.pop(0))
            window.granted(grant)
        assert window.available >= 0
        assert window.taken == sum(in_flight)
