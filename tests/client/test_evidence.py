"""What is known of a file that is changed here: the size is always within what is known, whatever was executed."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.client.evidence import Evidence, Known, Proof
from smbfuse.share import FileStat, Kind

STAT = FileStat(Kind.FILE, 10, 4096, 0, 1, 2, 3, 4, file_id=77, volume_id=5)


@dataclass
class Pending:
    """A change that was sent and has no answer yet."""

    begun: int
    apply: Callable[[int], int]  # old size -> new size
    reach: int = 0
    size: int | None = None
    executed: bool = False


sizes = st.integers(0, 40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), sizes, st.integers(1, 8)),
        st.tuples(st.just("resize"), sizes, st.just(0)),
        st.tuples(st.just("execute"), sizes, st.just(0)),
        st.tuples(st.just("answer"), sizes, st.just(0)),
        st.tuples(st.just("lose"), sizes, st.just(0)),
        st.tuples(st.just("ask"), sizes, st.just(0)),
        st.tuples(st.just("hear"), sizes, st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_the_size_lies_between_what_was_acknowledged_and_what_was_sent(steps: list[tuple[str, int, int]]) -> None:
    evidence = Evidence()
    known = evidence.opened("file", STAT, evidence.now())
    size = STAT.size
    pending: list[Pending] = []
    question = None
    answer = STAT
    for step, number, length in steps:
        if step == "write":
            end = number + length
            pending.append(Pending(known.begin(reach=end), lambda old, end=end: max(old, end), reach=end))  # type: ignore[misc]
        elif step == "resize":
            pending.append(Pending(known.begin(size=number), lambda old, new=number: new, size=number))  # type: ignore[misc]
        elif step == "ask":
            question, answer = evidence.now(), STAT._replace(size=size)
        elif step == "hear" and question is not None:
            known.learn(answer, exact=question.changes == evidence.changes)
            question = None
        elif pending:
            one = pending[number % len(pending)]
            if step == "execute" and not one.executed:
                size, one.executed = one.apply(size), True
            elif (step == "answer" and one.executed) or step == "lose":
                pending.remove(one)
                known.end(one.begun, reach=one.reach, size=one.size, done=step == "answer")
                # A request whose answer was lost is never executed any more: its connection has ended.
        assert known.smallest <= size <= known.largest, (step, known)
        assert known.judge(STAT._replace(size=size, written_ns=99, changed_ns=99), writing=True) is Proof.SAME


@pytest.mark.parametrize(
    "changed, proof",
    [
        ({}, Proof.SAME),
        ({"accessed_ns": 99, "allocation": 0, "links": 2, "attributes": 1}, Proof.SAME),
        ({"written_ns": 99}, Proof.CHANGED),
        ({"changed_ns": 99}, Proof.CHANGED),
        ({"size": 11}, Proof.CHANGED),
        ({"size": 9}, Proof.CHANGED),
        ({"file_id": 78}, Proof.ANOTHER),
        ({"volume_id": 6}, Proof.ANOTHER),
        ({"created_ns": 99}, Proof.ANOTHER),
        ({"kind": Kind.FIFO}, Proof.ANOTHER),
    ],
)
def test_what_proves_a_file_that_was_only_read(changed: dict[str, int], proof: Proof) -> None:
    known = a_file()
    assert known.judge(STAT._replace(**changed), writing=False) is proof  # type: ignore[arg-type]  # real fields


@pytest.mark.parametrize("changed", [{"written_ns": 99}, {"changed_ns": 99}])
def test_times_prove_nothing_of_a_file_that_was_changed_here_or_is_open_for_writing(changed: dict[str, int]) -> None:
    known = a_file()
    assert known.judge(STAT._replace(**changed), writing=True) is Proof.SAME  # type: ignore[arg-type]  # real fields
    known.end(known.begin(), done=True)
    assert known.judge(STAT._replace(**changed), writing=False) is Proof.SAME  # type: ignore[arg-type]


def test_while_a_writer_is_open_the_server_may_still_move_the_times() -> None:
    known = a_file()
    known.writers += 1
    known.end(known.begin(reach=20), reach=20, done=True)
    told = STAT._replace(size=20, written_ns=50)
    known.learn(told, exact=True)
    assert (known.touched, known.smallest, known.largest) == (True, 20, 20)
    known.close_writer()
    known.learn(told, exact=True)
    assert (known.touched, known.smallest, known.largest) == (False, 20, 20)
    assert known.judge(told, writing=False) is Proof.SAME
    assert known.judge(told._replace(written_ns=51), writing=False) is Proof.CHANGED


def test_a_file_is_known_by_its_id_or_else_its_path() -> None:
    evidence = Evidence()
    first = evidence.opened("name", STAT, evidence.now())
    assert evidence.opened("other name", STAT, evidence.now()) is first
    assert evidence.opened("name", STAT._replace(volume_id=6), evidence.now()) is not first
    nameless = STAT._replace(file_id=0)
    one = evidence.opened("name", nameless, evidence.now())
    assert evidence.opened("name", nameless, evidence.now()) is one
    evidence.told(STAT._replace(size=30), evidence.now())
    assert first.largest == 30


def test_an_open_beside_a_change_by_path_knows_no_times() -> None:
    evidence = Evidence()
    asked = evidence.now()
    evidence.changed_by_path()
    assert evidence.opened("name", STAT, asked).touched


def a_file() -> Known:
    evidence = Evidence()
    return evidence.opened("file", STAT, evidence.now())
