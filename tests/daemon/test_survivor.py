"""The child that frees a killed mount: it writes when the main thread is gone, whatever else is left, and only then."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smbfuse.daemon import survivor
from tests.support.samba import wait_for
from tests.support.users import ROOT

SOON_S: Final = 20.0
QUIET_S: Final = 0.5

# The main thread ends by a line of its input, and leaves a thread behind that no signal of a test would reach.
PROGRAM: Final = """
import ctypes, sys, threading, time
from pathlib import Path
from smbfuse.daemon import survivor
survivor._SHELL = "{shell}"
with survivor.Survivor() as one:
    one.is_to_abort(Path(sys.argv[1]))
    print(one._child.pid if one._child else 0, flush=True)
    word = sys.stdin.readline()
    if word == "vanish\\n":
        threading.Thread(target=time.sleep, args=(600,)).start()
        ctypes.CDLL(None).syscall({exit}, 0)  # of this thread alone
"""
SYS_EXIT: Final = {"x86_64": 60, "aarch64": 93}


class Parent:
    """A process that has a survivor, and the file that is to be written to."""

    def __init__(self, path: Path, *, shell: Path = Path("/bin/sh")) -> None:
        self.path = path
        program = PROGRAM.format(exit=SYS_EXIT[os.uname().machine], shell=shell)
        command = [sys.executable, "-c", program, str(path)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def child_is_gone(self) -> bool:
        try:
            return ") Z " in Path(f"/proc/{self.child}/stat").read_text()  # nobody is left to ask how it ended
        except FileNotFoundError:
            return True

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SOON_S)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    if os.uname().machine not in SYS_EXIT:
        pytest.skip("the number of exit(2) is not known here")
    (tmp_path / "abört [1]").touch()
    parent = Parent(tmp_path / "abört [1]")
    yield parent
    parent.end()


def test_it_writes_when_the_main_thread_has_vanished_though_others_are_left(parent: Parent) -> None:
    parent.say("vanish")
    assert wait_for(lambda: parent.path.read_text() == "1\n", SOON_S)
    assert parent.process.poll() is None  # the rest of it is still there
    assert wait_for(parent.child_is_gone, SOON_S)


def test_it_goes_with_a_mount_that_has_ended(parent: Parent) -> None:
    parent.say("end")
    assert parent.process.wait(SOON_S) == 0
    assert parent.child_is_gone()
    assert parent.path.read_text() == ""


def test_it_goes_with_a_process_that_was_killed_with_all_its_threads(parent: Parent) -> None:
    os.killpg(parent.process.pid, signal.SIGKILL)
    assert wait_for(parent.child_is_gone, SOON_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_are_meant_for_its_parent_do_not_concern_it(parent: Parent, number: signal.Signals) -> None:
    os.kill(parent.child, number)
    assert not wait_for(parent.child_is_gone, QUIET_S)
    assert parent.path.read_text() == ""
    parent.say("vanish")
    assert wait_for(lambda: parent.path.read_text() == "1\n", SOON_S)


def test_a_parent_whose_survivor_was_killed_does_not_mind(parent: Parent) -> None:
    os.kill(parent.child, signal.SIGKILL)
    parent.say("end")
    assert parent.process.wait(SOON_S) == 0


def test_a_system_without_a_shell_does_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(survivor, "_SHELL", str(tmp_path / "sh"))
    with survivor.Survivor() as nobody:
        nobody.is_to_abort(tmp_path / "abort")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", ["bash", "busybox", "ksh", "mksh", "yash", "zsh"])
def test_any_shell_will_do(shell: str, tmp_path: Path, parent: Parent) -> None:
    """The distributions' `sh` are not all the same."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "sh").symlink_to(found)
    own = Parent(parent.path, shell=tmp_path / "sh")
    try:
        own.say("vanish")
        assert wait_for(lambda: own.path.read_text() == "1\n", SOON_S)
        assert wait_for(own.child_is_gone, SOON_S)
    finally:
        own.end()
