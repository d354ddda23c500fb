"""The event loop never stops, whoever is killed in the middle of something; a known inode stays small.

The gap is measured from outside: the control socket is asked all the time, which needs the loop and nothing else.
"""

import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from smbfuse.daemon import control
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, wait_for
from tests.support.starving import main_thread, starved_s

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

BACK_S: Final = 30.0
LONGEST_GAP_S: Final = 1.0
CALLERS: Final = 8
FILES: Final = 50

# Several threads each: a killed caller leaves several requests behind, in whatever state they are.
CALL: Final = """
import os, random, sys, threading
folder, count = sys.argv[1], int(sys.argv[2])
def call():
    while True:
        name = f"{folder}/{random.randrange(count)}"
        try:
            os.stat(name)
            with open(name, "rb", buffering=0) as file:
                os.pread(file.fileno(), 100_000, random.randrange(150_000))
            os.listdir(folder)
            os.stat(f"{name} is not there")
        except FileNotFoundError:
            pass
threads = [threading.Thread(target=call, daemon=True) for _ in range(3)]
for one in threads: one.start()
for one in threads: one.join()
"""


class Pulse:
    """Asks a mount's control socket all the time, from a thread of its own; keeps the longest wait for an answer.

    What either of the two waited for a core of the machine is not counted: the loop did not stop then.
    """

    def __init__(self, mount: Mount) -> None:
        self.longest_s = 0.0
        self.answers = 0
        self._path = control.socket_path(control.folder_for(mount.user.uid, ""), str(mount.point))
        self._daemon = main_thread(mount.process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._feel, daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(40)

    def _feel(self) -> None:
        while not self._over.is_set():
            began = self._fed_s()
            try:
                answered = "status" in control.ask(self._path, {"request": "status"}, timeout_s=30)
            except OSError:
                answered = False
            self.longest_s = max(self.longest_s, self._fed_s() - began if answered else 30.0)
            self.answers += answered
            self._over.wait(0.02)

    def _fed_s(self) -> float:
        """Return a clock that stands while one of the two has no core."""
        return time.monotonic() - starved_s() - starved_s(self._daemon)


def kill_at_random(mount: Mount, *, seconds: float, seed: int) -> int:
    """Start callers and kill them in the middle of something, for so long; return how many were killed."""
    source = random.Random(seed)
    callers: list[subprocess.Popen[bytes]] = []
    killed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(callers) < CALLERS:
            callers.append(mount.start("/usr/bin/python3", "-c", CALL, mount.point, str(FILES)))
        time.sleep(source.random() / 10)
        victim = callers.pop(source.randrange(len(callers)))
        # SIGKILL, SIGTERM, SIGINT: a caller that is about to die, or only interrupted in its system call
        victim.send_signal(source.choice((9, 15, 2)))
        time.sleep(source.random() / 50)
        victim.kill()
        victim.communicate(timeout=20)
        killed += 1
    for caller in callers:
        caller.kill()
    for caller in callers:
        caller.communicate(timeout=20)
    return killed


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
@pytest.mark.parametrize(
    "seconds, silence_s",
    [
        pytest.param(8, 2, id="8 s"),
        pytest.param(60, 15, id="60 s", marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
)
def test_callers_killed_at_random_leave_no_gap(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], vers: str, seconds: float, silence_s: float
) -> None:
    for number in range(FILES):
        (share_folder / str(number)).write_bytes(bytes(200_000))
    mounted = mount(samba, {"vers": vers, "cache": "none", "actimeo": 0}, subfolder=f"/{share_folder.name}")
    with Pulse(mounted) as pulse:
        killed = kill_at_random(mounted, seconds=seconds, seed=20261121)
        time.sleep(silence_s)  # nobody asks: a loop that waits for the next request waits now
    assert killed > seconds
    assert pulse.answers > 2 * seconds
    assert pulse.longest_s < LONGEST_GAP_S
    assert mounted.run("ls", mounted.point).count("\n") == FILES


def test_blocked_callers_of_every_kind_leave_the_rest_alone(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> None:
    """Callers in stat, open, listing and read of a silent server: what is known is told, and nobody waits for ever."""
    server = start_samba()
    for folder in ("known", "unknown"):
        (server.root / folder).mkdir()
        for number in range(100):
            (server.root / folder / str(number)).write_bytes(bytes(1000))
            (server.root / folder / f"folder {number}").mkdir()
    options: Options = {"nonotify": True, "actimeo": 60, "timeo": 15, "echo_interval": 60}
    mounted = mount(server, options)
    mounted.run("ls", "-l", mounted.point, mounted.point / "known")
    mounted.run("df", mounted.point)
    with server.paused(), Pulse(mounted) as pulse:
        known, unknown = mounted.point / "known", mounted.point / "unknown"
        callers = [
            mounted.start(*command)
            for number in range(25)
            for command in (
                ("cat", known / str(number)),
                ("stat", unknown / str(number)),
                ("ls", known / f"folder {number}"),
                ("ls", unknown),
            )
        ]
        time.sleep(1)
        assert sum(caller.poll() is None for caller in callers) == len(callers)
        # All of them before the first caller is given up: had they to wait for the callers, they would end after them.
        assert mounted.run("ls", mounted.point / "known", timeout_s=20).count("\n") == 200
        mounted.run("df", mounted.point, timeout_s=20)
        assert mounted.run("stat", "--format=%s", mounted.point / "known" / "99", timeout_s=20) == "1000\n"
        assert sum(caller.poll() is None for caller in callers) == len(callers)
        for caller in callers:
            caller.kill()
        began = time.monotonic()
        for caller in callers:
            caller.communicate(timeout=30)
        assert time.monotonic() - began < 30
    assert pulse.longest_s < LONGEST_GAP_S
    # Whoever asks before the next dial has ended is told that the server is down.
    assert wait_for(lambda: mounted.run("ls", mounted.point / "unknown", check=False).count("\n") == 200, BACK_S)
