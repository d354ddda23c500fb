"""A machine that is about to sleep waits for nobody who waits for a server: he is answered now, and served later.

logind is the tests' own, on a real bus.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.caller import caller_on
from tests.support.folders import public_folder
from tests.support.login1 import Bus, Login1, bus_in
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SOON_S: Final = 30.0  # a limit, never a pause
ASLEEP_S: Final = 2.0
TOLD_S: Final = 0.5  # until a mount has heard of changes: its watch counts 0.2 s after it was asked for
SLOW_S: Final = 6.0  # what a busy machine may take besides: who is not told waits for five times as long
CONTENT: Final = bytes(range(256)) * 1000
DIALECTS: Final = [pytest.param("1.0", id="1.0"), pytest.param("3.1.1", id="3.1.1")]


@pytest.fixture
def bus() -> Iterator[Bus]:
    with public_folder("smbfuse-bus-") as folder, bus_in(folder) as bus:
        yield bus


@pytest.fixture
def login1(bus: Bus) -> Iterator[Login1]:
    with Login1(bus) as login1:
        yield login1


class Laptop:
    """A mount of a folder through a relay, on a machine with a lid."""

    def __init__(self, mount: Mount, relay: Relay, login1: Login1, folder: Path) -> None:
        self.mount = mount
        self.relay = relay
        self.folder = folder  # on the server's disk
        self._login1 = login1
        assert wait_for(lambda: login1.held == 1, SOON_S), mount.log_text()

    def sleep(self) -> float:
        """Close the lid; return after how long the machine may sleep, in seconds."""
        began = time.monotonic()
        self._login1.prepare_for_sleep(True)
        assert wait_for(lambda: self._login1.held == 0, SOON_S, pause_s=0.01), self.mount.log_text()
        return time.monotonic() - began

    def wake(self) -> None:
        """Open the lid."""
        self._login1.prepare_for_sleep(False)
        assert wait_for(lambda: self._login1.held == 1, SOON_S), self.mount.log_text()


@pytest.fixture
def laptop(
    samba: SambaServer,
    share_folder: Path,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    login1: Login1,
    bus: Bus,
    user: User,
) -> Iterator[Callable[[Options], Laptop]]:
    """Provide `laptop(options)`."""
    user.owns(share_folder)
    with contextlib.ExitStack() as stack:

        def make(options: Options) -> Laptop:
            relay = relay_to(samba.port)
            stack.callback(relay.heal)  # or the kernel keeps whom the test has left waiting
            environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
            settings = {"subfolder": f"/{share_folder.name}", "environment": environment}
            return Laptop(mount(samba, {**options, "port": relay.port}, **settings), relay, login1, share_folder)

        yield make


@pytest.mark.parametrize("vers", DIALECTS)
def test_nobody_waits_for_the_server_while_the_machine_sleeps(
    laptop: Callable[[Options], Laptop], user: User, vers: str
) -> None:
    machine = laptop({"vers": vers})
    mounted = machine.mount
    for name in ("seen", "not seen"):
        (machine.folder / name).write_bytes(CONTENT * 20)
        user.owns(machine.folder / name)
    user.owns_new(machine.folder / "sub")
    time.sleep(TOLD_S)  # else it is told of these changes when it has just seen what they have made
    mounted.run("stat", mounted.point / "seen", mounted.point / "sub")
    machine.relay.hold()
    with (
        mounted.start("cat", mounted.point / "seen") as reader,
        mounted.start("mkdir", mounted.point / "sub" / "made") as maker,
    ):
        assert not wait_for(lambda: reader.poll() is not None or maker.poll() is not None, 1)
        assert machine.sleep() < ASLEEP_S + SLOW_S
        for process in (reader, maker):
            _, said = process.communicate(timeout=SLOW_S)
            assert b"Host is down" in said
    began = time.monotonic()
    mounted.run("stat", mounted.point / "seen")  # it is known
    for command in ("cat", mounted.point / "not seen"), ("mkdir", mounted.point / "another"), ("ls", mounted.point):
        code, _, complaint = mounted.run_all(*command)
        assert code != 0
        assert "Host is down" in complaint
    assert time.monotonic() - began < SLOW_S
    machine.relay.heal()
    machine.wake()
    assert mounted.run("cat", mounted.point / "not seen").encode(errors="surrogateescape") == CONTENT * 20
    mounted.run("mkdir", mounted.point / "another")
    assert (machine.folder / "another").is_dir()


@pytest.mark.parametrize("vers", DIALECTS)
def test_what_was_written_is_on_the_server_before(laptop: Callable[[Options], Laptop], vers: str) -> None:
    machine = laptop({"vers": vers})
    with caller_on(machine.mount) as caller:
        for _ in range(3):
            caller.do("kept.__setitem__('f', os.open(os.path.join(point, 'f'), os.O_RDWR | os.O_CREAT | os.O_TRUNC))")
            caller.do("os.write(kept['f'], bytes(range(256)) * 1000)")
            machine.sleep()
            assert (machine.folder / "f").read_bytes() == CONTENT
            with pytest.raises(OSError, match="write") as refused:
                caller.do("os.write(kept['f'], b'more')")
            assert refused.value.errno == errno.EHOSTDOWN
            machine.wake()
            caller.do("os.write(kept['f'], b'more')")
            caller.close("f")
            assert (machine.folder / "f").read_bytes() == CONTENT + b"more"


@pytest.mark.parametrize("vers", DIALECTS)
def test_what_the_server_did_not_take_in_time_is_written_afterwards(
    laptop: Callable[[Options], Laptop], vers: str
) -> None:
    machine = laptop({"vers": vers})
    with caller_on(machine.mount) as caller:
        caller.do("kept.__setitem__('f', os.open(os.path.join(point, 'f'), os.O_RDWR | os.O_CREAT | os.O_TRUNC))")
        machine.relay.hold()
        caller.do("os.write(kept['f'], bytes(range(256)) * 1000)")
        assert machine.sleep() < ASLEEP_S + SLOW_S
        assert machine.mount.status()["filesystem"]["unsaved"] == len(CONTENT)
        machine.relay.heal()
        machine.wake()
        caller.close("f")
        assert (machine.folder / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("vers", DIALECTS)
def test_a_connection_that_has_not_survived_is_found_out_by_itself(
    laptop: Callable[[Options], Laptop], vers: str
) -> None:
    machine = laptop({"vers": vers, "echo_interval": 600})
    status = machine.mount.status()
    assert status["shares"][0]["connects"] == 1
    machine.sleep()
    machine.relay.forget(answer=False)
    machine.wake()

    def again() -> bool:
        return bool(machine.mount.status()["shares"][0].get("connects") == 2)

    assert wait_for(again, SOON_S)  # though nobody asks, and an idle connection is not asked for life for 10 minutes
    machine.mount.run("ls", machine.mount.point)


def test_a_mount_that_sleeps_can_be_ended(laptop: Callable[[Options], Laptop]) -> None:
    machine = laptop({})
    machine.sleep()
    machine.mount.process.send_signal(signal.SIGTERM)
    assert machine.mount.process.wait(SOON_S) == 0
    assert not machine.mount.mounted()
    assert os.listdir(machine.mount.point) == []


@pytest.mark.parametrize("vers", DIALECTS)
def test_a_write_that_was_cut_short_is_seen_when_it_arrived(laptop: Callable[[Options], Laptop], vers: str) -> None:
    machine = laptop({"vers": vers, "nolease": True})  # so that it is sent at once
    (machine.folder / "f").write_bytes(b"before")
    (machine.folder / "f").chmod(0o666)
    program = (
        "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); print(flush=True); input(); os.write(fd, b'x' * 99)"
    )
    with caller_on(machine.mount) as caller:
        caller.open("f", "f")
        with machine.mount.start("/usr/bin/python3", "-c", program, machine.mount.point / "f") as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdout.readline()
            machine.relay.hold()
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
            assert not wait_for(lambda: writer.poll() is not None, 1)
            machine.sleep()
            assert b"Host is down" in writer.communicate(timeout=SOON_S)[1]
        machine.relay.heal()
        machine.wake()
        assert wait_for(lambda: (machine.folder / "f").stat().st_size == 99, SOON_S)
        assert wait_for(lambda: caller.read("f") == b"x" * 99, SOON_S)
