"""Many losses, and long: nothing of them stays behind in the process, and no file holds what was not written.

A failure names the seed of its faults; SMBFUSE_TEST_FAULTS=SEED in the environment tries that one.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import Popen, TimeoutExpired
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.caller import caller_on
from tests.support.footprint import Footprint, settles
from tests.support.mounts import Mount
from tests.support.samba import SambaServer, wait_for
from tests.support.striking import Strikes, striking
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(300)]

REPLAY: Final = "SMBFUSE_TEST_FAULTS"
MIB: Final = 1 << 20
SETTLED_S: Final = 30.0
CACHES: Final = {"cache_size": 4 * MIB, "dirty_limit": 4 * MIB}  # so that what they hold is no matter

COUNTS: Final = [
    pytest.param(30, id="30"),
    pytest.param(200, id="200", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("vers", [pytest.param("1.0", marks=pytest.mark.soak), "3.1.1"])
def test_reconnects_leave_nothing_behind(
    samba: SambaServer,
    share_folder: "os.PathLike[str]",
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    vers: str,
    count: int,
) -> None:
    folder = user.owns(samba.root / os.path.basename(share_folder))
    for number in range(20):
        (folder / f"folder {number}").mkdir()
        (folder / f"folder {number}" / "file").write_text(f"{number}")
    relay = relay_to(samba.port, keep=64)
    mounted = mount(samba, {"vers": vers, "port": relay.port, **CACHES}, subfolder=f"/{folder.name}")

    with caller_on(mounted) as caller:
        caller.do("kept.__setitem__('w', os.open(os.path.join(point, 'held'), os.O_RDWR | os.O_CREAT, 0o644))")
        caller.open("r", "folder 0/file")

        def lose(number: int) -> None:
            """Lose the connection with a file that is open and dirty, another that is read, and a folder unread."""
            caller.do(f"os.pwrite(kept['w'], b'{number:08}', {8 * number})")
            accepted = relay.accepted
            relay.cut("rst" if number % 2 else "fin")
            caller.do("os.fsync(kept['w'])")
            assert caller.read("r") == b"0"
            assert caller.do(f"os.listdir(os.path.join(point, 'folder {number % 20}'))") == ["file"]
            assert relay.accepted > accepted

        # What is made once is there by then; the allocator goes on for some time, and comes to an end.
        first = max(10, count // 2)
        for number in range(first):
            lose(number)
        time.sleep(1)
        before = Footprint.of(mounted)
        for number in range(first, first + count):
            lose(number)
        settles(mounted, before, growth=8 * MIB, within_s=SETTLED_S)
        caller.do("os.close(kept['w'])")
    expected = b"".join(b"%08d" % number for number in range(first + count))
    assert (folder / "held").read_bytes() == expected


# Each thread goes on for ever with files of its own. What it was told is on the server must be there: else it says so.
LOAD: Final = """
import hashlib, os, random, sys, threading, time
point, seed = sys.argv[1], int(sys.argv[2])
def work(number):
    source = random.Random(seed * 100 + number)
    folder, known = os.path.join(point, f"thread {number}"), {}
    while True:
        name = f"{source.randrange(8)}"
        path = os.path.join(folder, name)
        action = source.choice(["write", "write", "append", "read", "read", "rename", "unlink", "list", "space"])
        try:
            os.makedirs(folder, exist_ok=True)
            if action == "write":
                known.pop(name, None)
                data = source.randbytes(source.choice([10, 5000, 300_000, 2_000_000]))
                with open(path, "wb") as file:
                    file.write(data)
                known[name] = data
            elif action == "append" and name in known:
                data = known.pop(name)
                more = source.randbytes(3000)
                with open(path, "ab") as file:
                    file.write(more)
                known[name] = data + more
            elif action == "read" and name in known:
                with open(path, "rb") as file:
                    found = file.read()
                if found != known[name]:
                    print("LIE", path, len(found), len(known[name]), flush=True)
            elif action == "rename":
                other = f"{source.randrange(8)}"
                data, _ = known.pop(name, None), known.pop(other, None)
                os.rename(path, os.path.join(folder, other))
                if data is not None:
                    known[other] = data
            elif action == "unlink":
                known.pop(name, None)
                os.unlink(path)
            elif action == "list":
                os.listdir(folder)
            elif action == "space":
                os.statvfs(folder)
        except OSError as error:
            known.pop(name, None)
            time.sleep(0.05)
for number in range(4):
    threading.Thread(target=work, args=(number,), daemon=True).start()
print("begun", flush=True)
sys.stdin.read()
"""


@contextmanager
def loaded(mounted: Mount, seed: int, told: list[str]) -> Iterator[None]:
    """Let the program work; `told` gets what it complains of."""
    process: Popen[bytes] = mounted.start("/usr/bin/python3", "-c", LOAD, mounted.point, str(seed))
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    try:
        yield
    finally:
        process.kill()
        try:
            told += b"".join(process.communicate(timeout=60)).decode(errors="replace").splitlines()
        except TimeoutExpired:
            mounted.abort()  # nothing else frees it
            raise


@contextmanager
def faults(server: SambaServer, relay: Relay, seed: int) -> Iterator[Strikes]:
    """Do harm of all kinds at random, with pauses in which the mount comes back; all is well again at the end."""
    source = random.Random(seed)

    def for_a_while(begin: Callable[[], None], end: Callable[[], None], strikes: Strikes) -> None:
        begin()
        try:
            strikes.ended.wait(source.uniform(0.1, 6))
        finally:
            end()

    def go_away() -> None:
        relay.refuse()
        relay.cut()

    harms: list[Callable[[Strikes], None]] = [
        lambda _: relay.cut("rst"),
        lambda _: relay.cut("fin"),
        lambda _: relay.cut_after(source.randrange(1, MIB), to_server=source.random() < 0.5),
        lambda _: relay.forget(answer=False),
        lambda _: relay.forget(answer=True),
        lambda strikes: for_a_while(relay.refuse, relay.accept, strikes),
        lambda strikes: for_a_while(go_away, relay.accept, strikes),
        lambda strikes: for_a_while(relay.hold, relay.heal, strikes),
        lambda strikes: for_a_while(server.pause, server.resume, strikes),
        lambda _: server.restart(),
    ]

    def strike(strikes: Strikes) -> None:
        source.choice(harms)(strikes)
        strikes.count += 1
        strikes.ended.wait(source.uniform(0.1, 5))

    with striking(strike) as strikes:
        yield strikes
    relay.heal()


def idle_footprint(mounted: Mount) -> Footprint:
    """Wait until nothing is in use any more, and look."""
    seen = [Footprint.of(mounted)]

    def steady() -> bool:
        seen.append(Footprint.of(mounted))
        return seen[-1].tasks == seen[-2].tasks and seen[-1].descriptors == seen[-2].descriptors

    wait_for(steady, SETTLED_S, pause_s=2)
    return seen[-1]


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10, id="10 s"),
        pytest.param(1800, id="30 min", marks=[pytest.mark.soak, pytest.mark.timeout(3000)]),
    ],
)
@pytest.mark.parametrize("vers", [pytest.param("1.0", marks=pytest.mark.soak), "3.1.1"])
def test_nothing_stays_of_faults_and_load(
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    vers: str,
    seconds: int,
) -> None:
    seed = int(os.environ.get(REPLAY) or (1 if seconds < 100 else int.from_bytes(os.urandom(4))))
    server = start_samba()
    user.owns(server.root)
    relay = relay_to(server.port, keep=64)
    options = {"vers": vers, "port": relay.port, "timeo": 3, "echo_interval": 2, **CACHES}
    lost = ("not on the server", "on their way", "are given up", "half-way")
    mounted = mount(server, options, announced=lost)
    told: list[str] = []
    with loaded(mounted, seed, told):  # what is made once is there, and caches are full
        time.sleep(min(60, seconds / 4))
    before = idle_footprint(mounted)
    with loaded(mounted, seed + 1, told), faults(server, relay, seed) as strikes:
        time.sleep(seconds)
    assert strikes.count >= seconds / 20
    assert wait_for(lambda: mounted.run_all("ls", mounted.point)[0] == 0, 60)
    settles(mounted, before, growth=32 * MIB, within_s=2 * SETTLED_S)
    assert told == [], f"to replay it: {REPLAY}={seed}"
