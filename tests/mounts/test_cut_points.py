"""A script of all that changes a share, cut at random: the server holds afterwards what the program was told.

A failure names its seed; SMBFUSE_TEST_CUT=SEED in the environment tries that one and no other.
"""

import itertools
import json
import os
import random
import selectors
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.mounts.mutations import PROGRAM, SCRIPT, Operation, Told
from tests.relay import Relay
from tests.support.mounts import Mount, Options, Unanswered
from tests.support.samba import SambaServer, wait_for
from tests.support.striking import Strikes, striking
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(300)]

SCRIPT_S: Final = 90.0  # for one run of the script, on however slow a machine
TIMEO_S: Final = 2
UNDONE_S: Final = 5.0
REPLAY: Final = "SMBFUSE_TEST_CUT"
DURABLE: Final = {"posix locking": "no", "kernel oplocks": "no", "kernel share modes": "no"}


@dataclass(frozen=True, slots=True)
class Place:
    """One way to have a share."""

    options: Options
    share_options: Mapping[str, str] = field(default_factory=dict)
    modes: bool = False  # the server keeps them


PLACES: Final = {
    "1.0": Place({"vers": "1.0"}, modes=True),
    "1.0 nounix": Place({"vers": "1.0", "nounix": True, "mfsymlinks": True}),
    "2.1": Place({"vers": "2.1", "mfsymlinks": True}),
    "3.1.1": Place({"vers": "3.1.1", "mfsymlinks": True}),
    "3.1.1 durable": Place({"vers": "3.1.1", "mfsymlinks": True}, DURABLE),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """Where and how the connection ends."""

    to_server: bool
    after: int  # bytes in that direction, of the script's own
    reset: bool

    @classmethod
    def drawn(cls, seed: int, passed: Mapping[bool, int]) -> "Cut":
        """Draw one from a seed; `passed` is how many bytes the script takes in each direction.

        That differs by some bytes from one run to the next, and by place: a replay comes close.
        """
        source = random.Random(seed)
        to_server = source.random() < 0.5
        return cls(to_server, source.randrange(1, passed[to_server]), source.random() < 0.5)


class Scene:
    """A mount behind a relay, and a process on it that plays scripts, each in a folder of its own."""

    def __init__(self, place: Place, server: SambaServer, relay: Relay, mounted: Mount) -> None:
        self.place = place
        self.relay = relay
        self._server = server
        self._mounted = mounted
        self._process = mounted.start("/usr/bin/python3", "-c", PROGRAM, mounted.point)
        self._numbers = itertools.count()
        mark = relay.mark()
        answers = self._play(SCRIPT)
        self.passed = {
            way: sum(pdu.length for pdu in relay.pdus(mark) if pdu.to_server is way) for way in (True, False)
        }
        # What this server has not, or keeps in another way, is no matter here.
        self.script = [one for one, answer in zip(SCRIPT, answers, strict=True) if not _unsupported(answer)]
        self.play()

    def play(self) -> Told:
        """Play the script once, and compare what the server holds with what the program was told."""
        folder = f"run {next(self._numbers)}"
        told = Told()
        for operation, answer in zip(self.script, self._play(self.script, folder), strict=True):
            told.hear(operation, answer)
        # What failed half-way is undone as soon as there is a connection, which takes a moment.
        is_so = wait_for(lambda: told.difference(self._server.root / folder, modes=self.place.modes) is None, UNDONE_S)
        assert is_so, told.difference(self._server.root / folder, modes=self.place.modes)
        return told

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate(timeout=SCRIPT_S)

    def _play(self, script: Sequence[Operation], folder: str = "first") -> list[Any]:
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps([folder, script]).encode() + b"\n")
        asking.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(answering, selectors.EVENT_READ)
            if not selector.select(SCRIPT_S):
                self._mounted.abort()
                raise Unanswered(f"the script did not end within {SCRIPT_S:g} s\n{self._mounted.log_text()}")
        line = answering.readline()
        assert line, self._mounted.log_text()
        answers = json.loads(line)
        assert isinstance(answers, list)
        return answers


def _unsupported(answer: Any) -> bool:
    return isinstance(answer, list) and answer[:1] in ([1], [38], [95])  # EPERM, ENOSYS, EOPNOTSUPP


@pytest.fixture(params=list(PLACES))
def scene(
    request: pytest.FixtureRequest,
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
) -> Iterator[Scene]:
    """Provide a scene on a server of its own."""
    place = PLACES[request.param]
    server = start_samba(share_options=place.share_options)
    user.owns(server.root)
    relay = relay_to(server.port, keep=128)
    options: Options = {**place.options, "port": relay.port, "timeo": TIMEO_S, "user_xattr": True}
    lost = ("not on the server", "on their way", "are given up")
    scene = Scene(place, server, relay, mount(server, options, announced=lost))
    yield scene
    scene.end()


FEW: Final = 10  # cuts: no soak


def seeds(count: int) -> Iterator[int]:
    """Yield the seeds to try: the same ones each time, or new ones in a soak; or the one that is to be replayed."""
    if (one := os.environ.get(REPLAY)) is not None:
        yield int(one)
        return
    first = 0 if count < FEW else int.from_bytes(os.urandom(4))
    yield from range(first, first + count)


@contextmanager
def named(seed: int, cut: Cut) -> Iterator[None]:
    """Have a failure name its seed."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"{cut}; to replay it: {REPLAY}={seed}")
        raise


def aim(scene: Scene, seed: int) -> Cut:
    """Arm the cut of a seed."""
    cut = Cut.drawn(seed, scene.passed)
    scene.relay.cut_after(cut.after, to_server=cut.to_server, manner="rst" if cut.reset else "fin")
    return cut


def cut_shortly(scene: Scene, seed: int) -> bool:
    """Cut once, in the script, which does not notice; return whether it struck."""
    accepted = scene.relay.accepted
    with named(seed, aim(scene, seed)):
        told = scene.play()
        assert not told.failures, told.failures
    scene.relay.heal()
    return scene.relay.accepted > accepted


def cut_for_long(scene: Scene, seed: int) -> int:
    """Cut once, and let nobody connect until the deadline has passed; return how many operations failed."""

    def connect_again(strikes: Strikes) -> None:
        if not strikes.count and not scene.relay.connections():
            strikes.count += 1
            strikes.ended.wait(TIMEO_S + 1)
            scene.relay.accept()
        strikes.ended.wait(0.01)

    scene.relay.refuse()
    with named(seed, aim(scene, seed)), striking(connect_again):
        told = scene.play()
    scene.relay.heal()
    scene.relay.accept()
    return len(told.failures)


# In each of five places: thirty, and a thousand and some more.
SHORT: Final = 4
LONG: Final = 2
SOAK: Final = 200


@pytest.mark.parametrize(
    "count", [SHORT, pytest.param(SOAK, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])], ids=["some", "many"]
)
def test_what_is_cut_for_a_moment_is_done_as_if_nothing_had_been(scene: Scene, count: int) -> None:
    strikes = [cut_shortly(scene, seed) for seed in seeds(count)]
    assert sum(strikes) >= len(strikes) // 2


@pytest.mark.parametrize(
    "count", [LONG, pytest.param(SOAK // 4, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])], ids=["some", "many"]
)
def test_what_fails_in_an_outage_is_done_or_not_and_nothing_else(scene: Scene, count: int) -> None:
    failures = [cut_for_long(scene, seed) for seed in seeds(count)]
    assert sum(failures) >= len(failures) // 2
