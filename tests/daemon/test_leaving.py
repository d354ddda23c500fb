"""A mount that is told to end while it is in use: what is open is served, nothing more is opened, and not for ever."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from smbfuse.cli.exits import Exit
from tests.daemon.conftest import Program, gone
from tests.support.samba import wait_for

pytestmark = pytest.mark.mounts

END_S = 20.0  # much less than flush_timeout=, which is a minute
# A program that has a file and a folder open. Told a word, it answers with a word or an errno's name.
INSIDE = """
import errno, os, sys
os.chdir(sys.argv[1])
file, folder = os.open("file", os.O_RDONLY), os.open(".", os.O_RDONLY)
def read():
    return os.pread(file, 100, 0).decode()
def open_another():
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY))
def open_again():
    os.close(os.open("file", os.O_RDONLY))
def listed():
    os.listdir(".")
def make():
    os.mkdir("made")
def close():
    os.close(file)
def leave():
    os.close(folder)
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(globals()[line.strip()]() or "done", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""
# One that writes and never closes.
WRITER = """
import os, sys, time
os.write(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), b"text\\n")
print("written", flush=True)
time.sleep(1000)
"""


class Inside:
    """Such a program."""

    def __init__(self, program: Program) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", INSIDE, program.point], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def does(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=END_S)


@contextlib.contextmanager
def ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill a process at the end."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def inside(program: Program) -> Iterator[list[Inside]]:
    """Provide a list for such programs, which are ended."""
    started: list[Inside] = []
    yield started
    for one in started:
        one.end()


def test_who_has_something_open_is_served_until_he_closes_it(program: Program, inside: list[Inside]) -> None:
    process = program.mount_in_foreground()
    caller = Inside(program)
    inside.append(caller)
    process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: not program.mounted(), END_S)
    assert caller.does("read") == "content"
    assert caller.does("open_another") == caller.does("open_again") == caller.does("listed") == "ESHUTDOWN"
    assert caller.does("make") == "done"
    assert caller.does("close") == "done"
    assert not wait_for(lambda: process.poll() is not None, 1)  # the folder is open
    assert caller.does("leave") == "done"
    assert process.wait(END_S) == 0  # though the program is inside still
    said = process.communicate()[1]
    # How many are left, and for how long, depends on when it looks: we have gone on meanwhile.
    assert re.search(r"unmounted while in use \(files and folders open inside: [12]\); served for (59|60) s more", said)
    assert program.trace()[-1] == "left"


def test_the_mount_stays_in_its_place_until_everything_is_saved(program: Program, inside: list[Inside]) -> None:
    process = program.mount_in_foreground("deaf", "-o", "flush_timeout=6")
    caller = Inside(program)
    inside.append(caller)
    command = [sys.executable, "-c", WRITER, str(program.point / "w")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as one, ending(one):
        assert one.stdout is not None
        one.stdout.readline()
        assert wait_for(lambda: program.status()["filesystem"]["unsaved"] == 5, END_S)
        process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: caller.does("open_again") == "ESHUTDOWN", END_S)
        assert program.mounted()
        listed = subprocess.run(["ls", program.point], capture_output=True, text=True, timeout=END_S, check=False)
        assert listed.returncode != 0
        assert process.wait(END_S) == Exit.UNSAVED
    assert not program.mounted()
    assert "not on the server: file='w' offset=0 length=5: " in process.communicate()[1]


def test_nobody_is_served_for_ever(program: Program, inside: list[Inside]) -> None:
    process = program.mount_in_foreground("memory", "-o", "flush_timeout=2")
    caller = Inside(program)
    inside.append(caller)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == 0
    assert time.monotonic() - began > 2
    assert caller.does("read") == caller.does("listed") == "ENOTCONN"


@pytest.mark.parametrize("foreground", [True, False])
def test_a_second_signal_ends_the_waiting_with_a_code_of_its_own(
    program: Program, inside: list[Inside], foreground: bool
) -> None:
    log = program.folder / "log"
    if foreground:
        process = program.mount_in_foreground("memory", "-o", f"log_file={log}")
        pid = process.pid
    else:
        process = None
        pid = program.mount("memory", "-o", f"log_file={log}")
    inside.append(Inside(program))
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: "served for 60 s more" in log.read_text(), END_S)
    os.kill(pid, signal.SIGTERM)
    sentence = "ended at once, by a second signal, with everything on the server"
    if process is not None:
        assert process.wait(END_S) == Exit.ABORTED
        assert process.communicate()[1].splitlines()[-1] == f"smbfuse: {sentence}"
    else:
        assert wait_for(lambda: gone(pid), END_S)
        assert sentence in log.read_text()
    assert inside[0].does("read") == "ENOTCONN"


def test_systemd_is_shown_what_is_waited_for(program: Program, inside: list[Inside]) -> None:
    address = program.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(END_S)
        program.environment["NOTIFY_SOCKET"] = str(address)
        process = program.mount_in_foreground()
        assert manager.recv(4096).startswith(b"READY=1\n")
        caller = Inside(program)
        inside.append(caller)
        process.send_signal(signal.SIGTERM)
        assert manager.recv(4096).startswith(b"STOPPING=1\n")
        assert manager.recv(4096) == b"STATUS=unmounted while in use, still open inside: 2"
        caller.does("close")
        assert manager.recv(4096) == b"STATUS=unmounted while in use, still open inside: 1"
        caller.does("leave")
        assert process.wait(END_S) == 0
