"""Every fault that is done to a mount, each as one walk: what it does before the operations begin, and after.

A walk is a generator. It prepares; at its first `yield` the operations begin; it does what it does to them; at its
second `yield` their answers are awaited; then it puts everything right again, and asserts that it did strike. What must
be put right whatever happens stands in `finally`.
"""

import contextlib
import enum
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.relay import Relay
from tests.support.denial import NETWORK_SESSION_EXPIRED, USER_SESSION_DELETED
from tests.support.harm import Fault as Struck
from tests.support.harm import Manner, somewhere
from tests.support.hosts import Host
from tests.support.record import commands
from tests.support.samba import SambaServer, wait_for

DIALECTS: Final = ("1.0", "2.1", "3.1.1")
ROUND_TRIP_S: Final = 0.1
RATE: Final = 125_000.0  # bytes a second: 1 Mbit/s
SHORT_S: Final = 1.0  # an outage that is over within `timeo=2`
UNDER_WAY_S: Final = 0.3  # until the operations have asked what they ask first, or smbd has heard what it is told
# Bytes within which a byte is chosen, by to_server: all operations together move over 20,000 and 160,000.
WITHIN: Final[Mapping[bool, int]] = {True: 18_000, False: 40_000}
TRICKLE: Final = 4_000  # bytes in each direction: half of what all of the operations ask first, in half a second
ELSEWHERE: Final = "127.0.0.2"
TREE_CONNECT: Final = {3, 0x75}  # [MS-SMB2] 2.2.1.2, [MS-CIFS] 2.2.2.1


class Kind(enum.Enum):
    """What a fault is to those who call."""

    CUT = "the connection is of no use, and the next one is"
    OUTAGE = "there is no connection for a while, shorter than `timeo=`"
    SLOW = "everything takes longer"
    DETECTED = "a byte is changed on its way, and a signature or a seal shows it"
    DENIED = "a byte is changed on its way to the server, which denies what has a wrong signature"
    DAMAGE = "a byte is changed on its way, and nothing protects it"
    READ_ONLY = "the share may be written no longer"
    WITHDRAWN = "the server has the share no longer"
    STUCK = "the server is alive, and answers nothing that is asked of the share"
    GONE = "there is no connection, for longer than anybody waits"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault can get hold of: the mount finds `relay` by the name of `host`, and `server` behind it.

    `seed` chooses what a fault leaves open.
    """

    relay: Relay
    server: SambaServer
    host: Host
    seed: str


Walk = Generator[None]
Walker = Callable[[Scene], Walk]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and the options that a mount needs for it besides those that all have."""

    name: str
    kind: Kind
    walk: Walker
    options: Mapping[str, str | bool] = field(default_factory=dict)
    dialects: tuple[str, ...] = DIALECTS
    server_knows: bool = True  # that the connection has ended: its end reaches the server
    chance: bool = False  # where it strikes is chosen by a seed


@contextlib.contextmanager
def strikes(relay: Relay, fault: Struck) -> Iterator[None]:
    """Assert that a fault of the relay has struck by the end of the block."""
    before = relay.struck(fault)
    yield
    assert wait_for(lambda: relay.struck(fault) > before, 5), f"no {fault} has struck"


def _simply(do: Callable[[Scene], object], struck: Struck, undo: Callable[[Scene], object] = lambda _: None) -> Walker:
    """Do it before the operations begin; undo it when all have been answered."""

    def walk(scene: Scene) -> Walk:
        with strikes(scene.relay, struck):
            do(scene)
            try:
                yield
                yield
            finally:
                undo(scene)

    return walk


def _under_way(do: Callable[[Scene], object], struck: Struck = "hold", *, to_server: bool = False) -> Walker:
    """Do it while every operation waits: what it asks first is kept back (`to_server`), or the answer to that is."""

    def walk(scene: Scene) -> Walk:
        dialled = scene.relay.accepted
        with strikes(scene.relay, "hold"), strikes(scene.relay, struck):
            scene.relay.hold(to_server=to_server, to_client=not to_server)
            try:
                yield
                time.sleep(UNDER_WAY_S)
                do(scene)
            finally:
                scene.relay.heal()
            yield
        assert scene.relay.accepted > dialled, "the connection outlived it"

    return walk


# -- on the way


def _cut(manner: Manner) -> Callable[[Scene], None]:
    return lambda scene: scene.relay.cut(manner)


def _cut_somewhere(manner: Manner, *, to_server: bool) -> Walker:
    def cut(scene: Scene) -> None:
        scene.relay.cut_somewhere(WITHIN[to_server], seed=scene.seed, to_server=to_server, manner=manner)

    return _simply(cut, "cut")


def _swallowed(*, to_server: bool = False, to_client: bool = False) -> Walker:
    return _simply(lambda scene: scene.relay.forget(answer=False, to_server=to_server, to_client=to_client), "forget")


def _flipped(*, to_server: bool) -> Walker:
    def flip(scene: Scene) -> None:
        scene.relay.flip(somewhere(WITHIN[to_server], scene.seed), to_server=to_server)

    return _simply(flip, "flip")


def _refuse_for_a_while(scene: Scene) -> None:
    scene.relay.refuse_for(SHORT_S)
    scene.relay.cut()


def _held_up(scene: Scene) -> Walk:
    with strikes(scene.relay, "hold"):
        scene.relay.hold()
        try:
            yield
            time.sleep(SHORT_S)
        finally:
            scene.relay.heal()
        yield


def _vanishing_for_a_while(scene: Scene) -> Walk:
    with strikes(scene.relay, "swallow"):
        scene.relay.swallow()
        try:
            yield
            time.sleep(SHORT_S)
        finally:
            scene.relay.forget(answer=False)  # what has lost bytes is of no use any more
            scene.relay.heal()
        yield


def _lead_to_another_port(scene: Scene) -> None:
    address, port = scene.relay.target
    there = {scene.server.port, *scene.server.also_ports} - {port}
    scene.relay.lead((address, there.pop()))
    scene.relay.cut()


def _change_address(scene: Scene) -> None:
    there = "127.0.0.1" if scene.relay.host == ELSEWHERE else ELSEWHERE
    scene.relay.move(host=there)
    scene.host.move(there)
    scene.relay.cut()


def _denied(status: int) -> Walker:
    return _simply(lambda scene: scene.relay.deny(status), "deny")


def _refusing(scene: Scene) -> Walk:
    with strikes(scene.relay, "refuse"), strikes(scene.relay, "cut"):
        scene.relay.refuse()
        try:
            scene.relay.cut()
            yield
            yield
        finally:
            scene.relay.accept()


# -- the server


def _restart(scene: Scene) -> None:
    scene.server.restart()


def _end_clients(scene: Scene) -> None:
    assert scene.server.end_clients()


def _stopped(seconds: float | None) -> Walker:
    """Stop the server for so long; None: until all have been answered."""

    def walk(scene: Scene) -> Walk:
        with scene.server.paused():
            mark = scene.relay.mark()
            yield
            if seconds is None:
                yield
            else:
                time.sleep(seconds)
            passed = scene.relay.pdus(mark)
            assert any(pdu.to_server for pdu in passed), "nobody has asked"
            assert all(pdu.to_server for pdu in passed), "it has answered"
        if seconds is not None:
            yield

    return walk


def _killed(scene: Scene) -> Walk:
    dialled = scene.relay.accepted
    scene.server.kill()
    try:
        yield
        yield
        assert scene.relay.accepted > dialled, "nobody has dialled it"
    finally:
        scene.server.start()


def _tree_deleted(scene: Scene) -> Walk:
    dialled, mark = scene.relay.accepted, scene.relay.mark()
    scene.server.close_share("share")
    time.sleep(UNDER_WAY_S)
    yield
    yield
    assert any(command in TREE_CONNECT for command, _ in commands(scene.relay.pdus(mark)))
    assert scene.relay.accepted == dialled, "the login has gone too"


def _reconfigured(share_options: Mapping[str, str], *, without: tuple[str, ...] = ()) -> Walker:
    def walk(scene: Scene) -> Walk:
        mark = scene.relay.mark()
        scene.server.reconfigure(share_options, without=without)
        try:
            time.sleep(UNDER_WAY_S)
            yield
            yield
        finally:
            scene.server.reconfigure({})
        tree = [good for command, good in commands(scene.relay.pdus(mark)) if command in TREE_CONNECT]
        assert tree, "it was used on as before"
        assert any(tree) is not bool(without)

    return walk


SIGNED: Final = {"sign": True}
SEALED: Final = {"seal": True}

FAULTS: Final = (
    Fault("FIN before the requests arrive", Kind.CUT, _under_way(_cut("fin"), "cut", to_server=True)),
    Fault("FIN instead of the answers", Kind.CUT, _under_way(_cut("fin"), "cut")),
    Fault("RST before the requests arrive", Kind.CUT, _under_way(_cut("rst"), "cut", to_server=True)),
    Fault("RST instead of the answers", Kind.CUT, _under_way(_cut("rst"), "cut")),
    Fault("FIN at some byte of the requests", Kind.CUT, _cut_somewhere("fin", to_server=True), chance=True),
    Fault("FIN at some byte of the answers", Kind.CUT, _cut_somewhere("fin", to_server=False), chance=True),
    Fault("RST at some byte of the requests", Kind.CUT, _cut_somewhere("rst", to_server=True), chance=True),
    Fault("RST at some byte of the answers", Kind.CUT, _cut_somewhere("rst", to_server=False), chance=True),
    Fault(
        "RST at the next word, after silence",
        Kind.CUT,
        _simply(lambda scene: scene.relay.forget(), "forget"),
        server_knows=False,
    ),
    Fault("requests vanish", Kind.CUT, _swallowed(to_server=True), server_knows=False),
    Fault("answers vanish", Kind.CUT, _swallowed(to_client=True)),
    Fault("requests and answers vanish", Kind.CUT, _swallowed(to_server=True, to_client=True), server_knows=False),
    Fault("the login is deleted", Kind.CUT, _denied(USER_SESSION_DELETED)),
    Fault("the login has expired", Kind.CUT, _denied(NETWORK_SESSION_EXPIRED)),
    Fault("the tree is deleted", Kind.CUT, _tree_deleted),
    Fault("the server's process for us is killed", Kind.CUT, _under_way(_end_clients)),
    Fault("the server is on another port", Kind.CUT, _under_way(_lead_to_another_port, "lead")),
    Fault("the server has another address", Kind.CUT, _under_way(_change_address, "move")),
    Fault("the server is restarted", Kind.OUTAGE, _under_way(_restart)),
    Fault("the server stands still for 1 s", Kind.OUTAGE, _stopped(SHORT_S)),
    Fault("nothing passes for 1 s", Kind.OUTAGE, _held_up),
    Fault("all vanishes for 1 s, on new connections too", Kind.OUTAGE, _vanishing_for_a_while, server_knows=False),
    Fault("connections are refused for 1 s", Kind.OUTAGE, _under_way(_refuse_for_a_while, "refuse")),
    Fault(
        "each round trip takes 0.1 s more",
        Kind.SLOW,
        _simply(lambda scene: scene.relay.delay(ROUND_TRIP_S), "delay", lambda scene: scene.relay.delay(0)),
    ),
    Fault(
        "1 Mbit/s",
        Kind.SLOW,
        _simply(lambda scene: scene.relay.throttle(RATE), "throttle", lambda scene: scene.relay.throttle(None)),
    ),
    Fault(
        "each byte in a segment of its own",
        Kind.SLOW,
        _simply(lambda scene: scene.relay.trickle(TRICKLE), "trickle", lambda scene: scene.relay.heal()),
    ),
    Fault("a byte of the answers is changed, signed", Kind.DETECTED, _flipped(to_server=False), SIGNED, chance=True),
    Fault(
        "a byte of the requests is changed, sealed",
        Kind.DETECTED,
        _flipped(to_server=True),
        SEALED,
        ("3.1.1",),
        chance=True,
    ),
    Fault(
        "a byte of the answers is changed, sealed",
        Kind.DETECTED,
        _flipped(to_server=False),
        SEALED,
        ("3.1.1",),
        chance=True,
    ),
    Fault("a byte of the requests is changed, signed", Kind.DENIED, _flipped(to_server=True), SIGNED, chance=True),
    Fault("a byte of the requests is changed", Kind.DAMAGE, _flipped(to_server=True), chance=True),
    Fault("a byte of the answers is changed", Kind.DAMAGE, _flipped(to_server=False), chance=True),
    Fault("the share is made read-only", Kind.READ_ONLY, _reconfigured({"read only": "yes"})),
    Fault("the share is removed", Kind.WITHDRAWN, _reconfigured({}, without=("share",))),
    Fault(
        "the server's disk does not answer",
        Kind.STUCK,
        _simply(lambda scene: scene.relay.ignore(), "ignore", lambda scene: scene.relay.heal()),
    ),
    Fault(
        "all vanishes, on new connections too",
        Kind.GONE,
        _simply(lambda scene: scene.relay.swallow(), "swallow", lambda scene: scene.relay.heal()),
    ),
    Fault("connections are refused", Kind.GONE, _refusing),
    Fault("the server stands still", Kind.GONE, _stopped(None)),
    Fault("the server is killed", Kind.GONE, _killed),
)
