"""Many callers at once, blocked or killed: the mount goes on answering everybody else."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from smbfuse.daemon import control
from tests.support.mounts import Mount
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(240)]

BLOCKED: Final = 500
PROMPT_S: Final = 1.0  # what a user takes for "at once"
TRIES_S: Final = 8.0  # for another try: a loaded machine holds up one of them, callers that block hold up all

# As many threads as files, each a caller of its own in the kernel; says so when all have begun.
READ_ALL: Final = """
import os, sys, threading
folder, count = sys.argv[1], int(sys.argv[2])
begun = threading.Barrier(count + 1)
def read(number):
    begun.wait()
    try:
        with open(f"{folder}/{number}", "rb") as file:
            file.read()
    except OSError:
        pass
threading.stack_size(131072)
for number in range(count):
    threading.Thread(target=read, args=(number,)).start()
begun.wait()
print("begun", flush=True)
"""

# Callers that never stop asking; each is killed by the test in the middle of something.
ASK_FOR_EVER: Final = """
import os, random, sys
folder, count = sys.argv[1], int(sys.argv[2])
while True:
    name = f"{folder}/{random.randrange(count)}"
    os.stat(name)
    with open(name, "rb", buffering=0) as file:
        file.read()
    os.listdir(folder)
"""


# Folders are removed while others are made: the server gives the numbers of the former to the latter.
MAKE_AND_REMOVE: Final = """
import os, sys, threading
top, callers, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
refused = []
turn = threading.Barrier(callers, timeout=30)
def do(call, path):
    try:
        call(path)
    except OSError as error:
        refused.append(f"{call.__name__}: {error.strerror}")
def work(number):
    mine = f"{top}/{number}"
    for _ in range(rounds):
        do(os.mkdir, f"{mine}/first")
        turn.wait()
        do(*((os.rmdir, f"{mine}/first") if number % 2 else (os.mkdir, f"{mine}/second")))
        turn.wait()
        if not number % 2:
            do(os.rmdir, f"{mine}/second")
            do(os.rmdir, f"{mine}/first")
for number in range(callers):
    os.mkdir(f"{top}/{number}")
threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(refused), *sorted(set(refused)))
"""


def probe(mount: Mount) -> float:
    """Return how long the daemon takes to answer on its control socket, which needs its event loop and nothing else."""
    path = control.socket_path(control.folder_for(mount.user.uid, ""), str(mount.point))
    began = time.monotonic()
    assert control.ask(path, {"request": "status"}, timeout_s=30)["status"]["pid"]
    return time.monotonic() - began


def timed(mount: Mount, *command: str | Path) -> float:
    began = time.monotonic()
    mount.run(*command, timeout_s=20)
    return time.monotonic() - began


def prompt(taken_s: Callable[[], float]) -> bool:
    """Tell whether something is done at once, if not at the first try."""
    return wait_for(lambda: taken_s() < PROMPT_S, TRIES_S)


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_500_blocked_callers_leave_everybody_else_alone(
    start_samba: Callable[..., SambaServer], mount: Callable[..., Mount], vers: str
) -> None:
    server = start_samba()
    (server.root / "many").mkdir()
    for number in range(BLOCKED):
        (server.root / "many" / str(number)).write_bytes(bytes(1000))
    mounted = mount(server, {"vers": vers, "nonotify": True, "actimeo": 90, "timeo": 60, "echo_interval": 60})
    mounted.run("ls", "-l", mounted.point, mounted.point / "many")
    mounted.run("df", mounted.point)
    with server.paused():
        callers = mounted.start("/usr/bin/python3", "-c", READ_ALL, mounted.point / "many", str(BLOCKED))
        try:
            assert callers.stdout is not None
            assert callers.stdout.readline() == b"begun\n"
            time.sleep(1)
            assert callers.poll() is None, "nobody is blocked"
            assert prompt(lambda: probe(mounted))
            assert prompt(lambda: timed(mounted, "ls", mounted.point / "many"))
            assert prompt(lambda: timed(mounted, "df", mounted.point))
            assert prompt(lambda: probe(mounted))
            assert callers.poll() is None, "nobody was blocked any more"
        finally:
            server.resume()
            callers.communicate(timeout=60)


def storm(mount: Mount, folder: Path, rounds: int, seed: int) -> list[float]:
    """Kill callers at random under load, then be silent; return how long the daemon then took to answer, by round."""
    source = random.Random(seed)
    answers = []
    for _ in range(rounds):
        callers = [mount.start("/usr/bin/python3", "-c", ASK_FOR_EVER, folder, "50") for _ in range(8)]
        time.sleep(0.3)
        for caller in callers:
            time.sleep(source.random() / 20)
            caller.kill()
        for caller in callers:
            caller.communicate(timeout=20)
        # Nothing asks the kernel for anything now: a loop that waits for the next request would wait for ever.
        time.sleep(0.1)
        answers.append(min(probe(mount) for _ in range(3)))  # a loaded machine may hold up one
    return answers


@pytest.fixture
def fifty(share_folder: Path) -> Path:
    """Fill the test's folder with fifty files."""
    for number in range(50):
        (share_folder / str(number)).write_bytes(bytes(200_000))
    return share_folder


def test_killed_callers_do_not_freeze_the_daemon(samba: SambaServer, fifty: Path, mount: Callable[..., Mount]) -> None:
    mounted = mount(samba, {"actimeo": 0, "cache": "none"}, subfolder=f"/{fifty.name}")
    answers = storm(mounted, mounted.point, rounds=8, seed=1)
    assert max(answers) < PROMPT_S, answers


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_killed_callers_do_not_freeze_the_daemon_for_a_minute(
    samba: SambaServer, fifty: Path, mount: Callable[..., Mount], vers: str
) -> None:
    mounted = mount(samba, {"vers": vers, "actimeo": 0, "cache": "none"}, subfolder=f"/{fifty.name}")
    began, answers, seed = time.monotonic(), [], 0
    while time.monotonic() - began < 60:
        seed += 1
        answers += storm(mounted, mounted.point, rounds=10, seed=seed)
    assert max(answers) < PROMPT_S, (seed, answers)


def test_a_listing_of_many_names_comes_whole(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    names = {f"{number:05} ä" for number in range(10_000)}
    for name in names:
        (share_folder / name).touch()
    for vers in ("1.0", "3.1.1"):
        mounted = mount(samba, {"vers": vers}, subfolder=f"/{share_folder.name}")
        assert set(mounted.run("ls", "-U", mounted.point).splitlines()) == names
        assert mounted.run("ls", "-lU", mounted.point).count("\n") == len(names) + 1


def test_files_changed_on_the_server_are_seen_within_the_promised_time(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount]
) -> None:
    file = share_folder / "changing"
    file.write_text("before")
    mounted = mount(samba, {"actimeo": 1}, subfolder=f"/{share_folder.name}")
    assert mounted.run("cat", mounted.point / "changing") == "before"
    file.write_text("afterwards, and longer")
    assert wait_for(lambda: mounted.run("cat", mounted.point / "changing") == "afterwards, and longer", 3)
    file.unlink()
    assert wait_for(lambda: mounted.run_all("cat", mounted.point / "changing")[0] != 0, 3)
    assert wait_for(lambda: mounted.run("ls", mounted.point) == "", 3)


@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
def test_folders_are_made_while_others_are_removed(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User, vers: str
) -> None:
    user.owns(share_folder)
    mounted = mount(samba, {"vers": vers}, subfolder=f"/{share_folder.name}")
    assert mounted.python(MAKE_AND_REMOVE, mounted.point, "8", "25", timeout_s=120) == "0\n"
