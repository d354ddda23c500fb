"""Random programs of file operations: what a mount answers is what a dict of bytearrays answers.

The mount's requests are so small, and of so odd a size, that every boundary it has lies inside every file.
"""

import contextlib
import itertools
import json
import selectors
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mounts.model import LARGEST, MANNERS, NAMES, PROGRAM, SLOTS, Model, Operation
from tests.support.folders import public_folder
from tests.support.mounts import Mount, Options, Unanswered
from tests.support.samba import SambaServer
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SEQUENCE_S: Final = 60.0
LOCAL: Final = "local"

TINY: Final[Options] = {"rsize": 4096, "wsize": 1000, "cache_size": 32768, "dirty_limit": 16384, "rasize": 8192}
PLACES: Final[dict[str, Options]] = {
    "1.0": {"vers": "1.0"},
    "1.0 nounix": {"vers": "1.0", "nounix": True},
    "2.1": {"vers": "2.1"},
    "3.1.1": {"vers": "3.1.1"},
    "3.1.1 nolease": {"vers": "3.1.1", "nolease": True},
    "3.1.1 loose": {"vers": "3.1.1", "cache": "loose"},
    "3.1.1 none": {"vers": "3.1.1", "cache": "none"},
}

slots = st.integers(0, SLOTS - 1)
names = st.sampled_from(NAMES)
edges = st.sampled_from([0, 1, 999, 1000, 1001, 4095, 4096, 4097, 8192, 16384, 20480, LARGEST - 1])
offsets = st.one_of(edges, st.integers(0, LARGEST))
lengths = st.one_of(st.sampled_from([1, 999, 1000, 1001, 4096, 5000]), st.integers(1, 9000))
seeds = st.integers(0, 255)

# Writing is what this is about: it is offered more than once.
operations = st.one_of(
    st.tuples(st.just("open"), slots, names, st.sampled_from(MANNERS)),
    st.tuples(st.just("write"), slots, offsets, lengths, seeds),
    st.tuples(st.just("write"), slots, offsets, lengths, seeds),
    st.tuples(st.just("append"), slots, lengths, seeds),
    st.tuples(st.just("read"), slots, offsets, lengths),
    st.tuples(st.just("read"), slots, offsets, lengths),
    st.tuples(st.just("truncate"), slots, offsets),
    st.tuples(st.just("truncate_path"), names, offsets),
    st.tuples(st.just("size"), slots),
    st.tuples(st.just("size_path"), names),
    st.tuples(st.just("sync"), slots),
    st.tuples(st.just("close"), slots),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("unlink"), names),
    st.tuples(st.just("list")),
    st.tuples(st.just("whole"), names),
)


class Player:
    """A process that does operations on a mount, a new folder for each sequence."""

    def __init__(self, process: subprocess.Popen[bytes], give_up: Callable[[], None]) -> None:
        self._process = process
        self._give_up = give_up  # frees a process that waits for a mount in vain
        self._folders = itertools.count()

    def play(self, sequence: Sequence[Operation]) -> list[Any]:
        """Do them all and return what they returned."""
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps([f"sequence {next(self._folders)}", sequence]).encode() + b"\n")
        asking.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(answering, selectors.EVENT_READ)
            if not selector.select(SEQUENCE_S):
                self._give_up()
                raise Unanswered(f"{sequence} did not end within {SEQUENCE_S:g} s")
        answer = json.loads(answering.readline())
        assert isinstance(answer, list)
        return answer


@pytest.fixture(params=[LOCAL, *PLACES])
def player(
    request: pytest.FixtureRequest, samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User
) -> Iterator[Player]:
    """Provide a process on a mount of tiny requests, or on a local folder: is the model itself right?"""
    command = ("/usr/bin/python3", "-c", PROGRAM)
    with contextlib.ExitStack() as stack:
        if request.param == LOCAL:
            point = user.owns_new(stack.enter_context(public_folder("smbfuse-model-")) / "local")
            pipe = subprocess.PIPE
            process = subprocess.Popen([*command, point], stdin=pipe, stdout=pipe, **user.run_options())
            give_up = process.kill
        else:
            user.owns(share_folder)
            mounted = mount(samba, {**PLACES[request.param], **TINY}, subfolder=f"/{share_folder.name}")
            process = mounted.start(*command, mounted.point)
            give_up = mounted.abort
        yield Player(process, give_up)
        process.kill()
        process.communicate(timeout=SEQUENCE_S)


def compare(player: Player, drawn: Sequence[Operation]) -> None:
    """Do what can be done of a drawn sequence, here and there, and look at every file at the end."""
    model, sequence, expected = Model(), [], []
    ending = [("close", slot) for slot in range(SLOTS)] + [("list",)] + [("whole", name) for name in NAMES]
    for operation in [*drawn, *ending]:
        if model.can(*operation):
            sequence.append(operation)
            expected.append(model.do(*operation))
    answers = player.play(sequence)
    for number, (operation, wanted, answer) in enumerate(zip(sequence, expected, answers, strict=True)):
        assert answer == wanted, f"{operation} after {sequence[:number]}"


def searching(examples: int) -> settings:
    # One mount serves all examples of a test: each has a folder of its own.
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@searching(25)
@given(drawn=st.lists(operations, min_size=5, max_size=40))
def test_a_mount_answers_as_the_model_does(player: Player, drawn: list[Operation]) -> None:
    compare(player, drawn)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@searching(160)  # of some 120 operations, a third of which have no handle to work on
@given(drawn=st.lists(operations, min_size=80, max_size=160))
def test_ten_thousand_operations_answer_as_the_model_does(player: Player, drawn: list[Operation]) -> None:
    compare(player, drawn)
