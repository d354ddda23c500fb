"""A smbfuse that is killed takes nothing with it: its place answers ENOTCONN until the next one serves there.

The commands are those of the services in systemd/, run as systemd would.
"""

import contextlib
import errno
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.caller import caller_on
from tests.support.folders import mount_table, public_folder
from tests.support.mounts import WITH_US, Mount, mount_options, target
from tests.support.samba import SambaServer, wait_for
from tests.support.users import Installation, User

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

UNITS: Final = Path(__file__).resolve().parents[2] / "systemd"
SOON_S: Final = 30.0


class Unit:
    """A service of ours without its manager: started, and started again, by its own lines."""

    def __init__(
        self, unit: Path, place: Path, server: SambaServer, subfolder: str, user: User, installation: Installation
    ) -> None:
        self.text = unit.read_text()
        self.place = place
        self.log = place.parent / "log"
        self.user = user
        self.installation = installation
        self.started: list[subprocess.Popen[bytes]] = []
        url, options = target(server, {})
        self._words = {"${OPTIONS}": mount_options(options), "${SOURCE}": f"{url}/{subfolder}", "%f": str(place)}

    def lines(self, name: str) -> list[list[str]]:
        """Return the commands of one kind, taken apart."""
        commands = re.findall(rf"^{name}=-?(.*)$", self.text, re.MULTILINE)
        return [[self._words.get(word, word) for word in shlex.split(command)] for command in commands]

    def start(self) -> Mount:
        """Start the service and return its mount."""
        (command,) = self.lines("ExecStart")
        assert command[0] == "smbfuse"
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [*WITH_US, self.installation.program, *command[1:]],
                cwd="/",
                env=dict(self.installation.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self.user.run_options(),
            )
        self.started.append(process)
        mount = Mount(self.place, self.user, self.installation, process, self.log)
        # The status is the new one's: a dead mount is one, too.
        status = [str(self.installation.program), "status", "--json", str(self.place)]
        assert wait_for(lambda: mount.run_all(*status)[0] == 0 or process.poll() is not None, SOON_S)
        assert process.poll() is None, mount.log_text()
        return mount

    def killed(self) -> None:
        """Kill it, and do what the unit says for when it has ended."""
        process = self.started[-1]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(SOON_S)
        for command in self.lines("ExecStopPost"):
            subprocess.run(command, timeout=SOON_S, check=False, **self.user.run_options())

    def end(self) -> None:
        """Leave nothing behind."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(SOON_S)
        if self.place in mount_table():
            command = ["fusermount3", "-uz", str(self.place)]
            subprocess.run(command, timeout=SOON_S, check=False, **self.user.run_options())


@pytest.fixture
def unit(
    samba: SambaServer, share_folder: Path, user: User, installation: Installation
) -> Iterator[Callable[[Path], Unit]]:
    """Provide `unit(path)`: a service of the share's folder."""
    with contextlib.ExitStack() as stack:

        def make(path: Path) -> Unit:
            folder = stack.enter_context(public_folder("smbfuse-unit-"))
            user.owns(folder)
            place = user.owns_new(folder / "Platz [ä] 🐢")
            made = Unit(path, place, samba, share_folder.name, user, installation)
            stack.callback(made.end)
            return made

        yield make


@pytest.mark.parametrize(
    "path", [UNITS / "smbfuse@.service", UNITS / "user" / "smbfuse@.service"], ids=["system", "user"]
)
def test_the_place_is_never_empty_and_is_served_again(
    unit: Callable[[Path], Unit], share_folder: Path, path: Path
) -> None:
    service = unit(path)
    (share_folder / "there").write_bytes(bytes(32 << 20))
    mounted = service.start()
    with caller_on(mounted) as caller:
        caller.open("it", "there")
        assert caller.read("it", 9) == bytes(9)
        service.killed()
        assert mounted.mounted()
        for question in (
            "os.listdir(point)",
            "os.stat(point)",
            "os.stat(point + '/there')",
            "os.pread(kept['it'], 9, 31 << 20)",
        ):
            with pytest.raises(OSError) as dead:  # noqa: PT011  # its number is looked at
                caller.do(question)
            assert dead.value.errno == errno.ENOTCONN
        again = service.start()
        assert f"cleared {service.place}, which a smbfuse that was killed had left behind" in again.log_text()
        assert caller.do("os.listdir(point)") == ["there"]
        with pytest.raises(OSError) as dead:  # noqa: PT011
            caller.read("it", 9, 31 << 20)  # what was open stays dead, and does not become another's
        assert dead.value.errno == errno.ENOTCONN
    assert again.unmount() == 0
    assert len([point for point in mount_table() if point == service.place]) == 0


LOOKING: Final = """
import itertools, os, sys
for number in itertools.count():
    try:
        os.stat(os.path.join(sys.argv[1], f"unknown {os.getpid()} {number}"))
    except FileNotFoundError:
        pass
"""
CHANGING: Final = """
import itertools, os, sys
for number in itertools.count():
    path = os.path.join(sys.argv[1], str(number % 50))
    open(path, "w").close()
    os.unlink(path)
"""
KNOWING: Final = """
import os, sys
while True:
    for number in range(50):
        os.access(os.path.join(sys.argv[1], str(number)), os.F_OK)
"""
CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
ROUNDS: Final = 3


@pytest.fixture
def connections() -> Iterator[Path]:
    """Have the kernel show the connections of FUSE, as systemd does on every machine."""
    if os.path.ismount(CONNECTIONS):
        yield CONNECTIONS
        return
    made = subprocess.run(["mount", "-t", "fusectl", "none", CONNECTIONS], timeout=SOON_S, check=False)
    if made.returncode:
        pytest.skip(f"nothing is mounted at {CONNECTIONS}")
    yield CONNECTIONS
    subprocess.run(["umount", CONNECTIONS], timeout=SOON_S, check=True)


@pytest.mark.root
def test_nobody_waits_for_ever_though_the_kernel_was_just_being_told_of_a_name(
    connections: Path, samba: SambaServer, mount: Callable[..., Mount], relay_to: Callable[..., Relay], user: User
) -> None:
    relay = relay_to(samba.port, round_trip_s=0.02)
    folder = user.owns_new(samba.root / "busy")
    other = mount(samba)
    for _ in range(ROUNDS):
        killed = mount(samba, {"port": relay.port})
        point = killed.point / folder.name
        with contextlib.ExitStack() as stack:
            for program, on in ((CHANGING, other), (KNOWING, killed), (LOOKING, killed), (LOOKING, killed)):
                process = on.start("/usr/bin/python3", "-c", program, on.point / folder.name)
                stack.callback(process.communicate, timeout=SOON_S)
                stack.callback(process.kill)
            # From then on a thread waits in the kernel nearly always, because the folder is looked into all the time.
            assert wait_for(lambda: bool(killed.status()["kernel"]["waiting"]), SOON_S, pause_s=0.01)  # noqa: B023
            killed.process.kill()
            code, _, said = killed.run_all("stat", point, timeout_s=SOON_S)
            assert code != 0
            # Who asks in the very moment when the kernel is cut off hears that it was.
            assert os.strerror(errno.ENOTCONN) in said or os.strerror(errno.ECONNABORTED) in said
            killed.process.wait(SOON_S)
        assert killed.mounted()
