"""A mount that ends while programs have written what the server does not have yet: it is saved, or it is said."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from tests.daemon.conftest import Program, gone
from tests.support.samba import wait_for

pytestmark = pytest.mark.mounts

PATTERNS = 12_000
CONTENT = bytes(range(256)) * PATTERNS  # 3 MB: two whole requests go at once, the rest waits
SAVED = f"written {len(CONTENT)} {hashlib.sha256(CONTENT).hexdigest()}"
END_S = 20.0
BRIEFLY = "flush_timeout=3"  # the programs here never close what they have open

WRITER = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
data, piece = bytes(range(256)) * int(sys.argv[2]), int(sys.argv[3])
for at in range(0, len(data), piece):
    os.pwrite(fd, data[at : at + piece], at)
print("written", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def writer(program: Program) -> "Iterator[Writers]":
    """Provide programs that write a file and never close it."""
    writers = Writers(program.point)
    yield writers
    writers.end()


class Writers:
    """Programs that write a file and keep it open."""

    def __init__(self, point: Path) -> None:
        self.point = point
        self.started: list[subprocess.Popen[str]] = []

    def write(self, patterns: int = PATTERNS, *, piece: int = 1000) -> None:
        """Return when everything is written in pieces of so many bytes, as the program sees it."""
        sizes = [str(patterns), str(piece)]
        command: list[str | Path] = [sys.executable, "-c", WRITER, self.point / "written", *sizes]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"

    def end(self) -> None:
        """Kill them."""
        for process in self.started:
            process.kill()
            process.communicate(timeout=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("cache", ["strict", "loose"])
def test_a_signal_saves_what_is_written(program: Program, writer: Writers, number: signal.Signals, cache: str) -> None:
    process = program.mount_in_foreground("slow", "-o", f"cache={cache},{BRIEFLY}")
    writer.write()
    process.send_signal(number)
    assert process.wait(END_S) == 0, process.communicate()[1]
    assert not program.mounted()
    assert program.trace()[-3:] == [SAVED, "leaving", "left"]


def test_a_daemon_saves_as_well(program: Program, writer: Writers) -> None:
    pid = program.mount("slow", "-o", BRIEFLY)
    writer.write()
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: gone(pid), END_S)
    assert program.trace()[-3:] == [SAVED, "leaving", "left"]


def test_a_lazy_unmount_leaves_programs_their_time(program: Program, writer: Writers) -> None:
    process = program.mount_in_foreground("slow")
    writer.write()
    subprocess.run(["fusermount3", "-u", "-z", program.point], timeout=10, check=True)
    writer.end()  # their last close ends the mount
    assert process.wait(END_S) == 0, process.communicate()[1]
    assert program.trace()[-3:] == [SAVED, "leaving", "left"]


def test_a_close_that_could_not_save_has_an_error(program: Program) -> None:
    program.mount("full")
    ran = subprocess.run(
        ["dd", "if=/dev/zero", f"of={program.point}/written", "bs=1000", "count=10"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr


def test_what_cannot_be_saved_is_named_and_has_an_exit_code(program: Program, writer: Writers) -> None:
    process = program.mount_in_foreground("full", "-o", "flush_timeout=2")
    # Less than a request: it waits for more. In one piece: after a second the program would hear of a refusal.
    writer.write(patterns=1000, piece=256_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == Exit.UNSAVED
    said = process.communicate()[1].splitlines()
    assert said[-1] == "smbfuse: unmounted with 256000 bytes of 1 file not on the server; the log names them"
    assert any("not on the server: file='written' offset=0 length=256000: WRITE: DISK_FULL" in line for line in said)
    assert "Traceback" not in "\n".join(said)


def test_a_second_signal_waits_for_no_server_and_says_what_is_lost(program: Program, writer: Writers) -> None:
    log = program.folder / "log"
    pid = program.mount("deaf", "-o", f"log_file={log}")
    assert program.status()["filesystem"]["unsaved"] == 0
    writer.write()
    assert program.status()["filesystem"]["unsaved"] == len(CONTENT)
    assert program.run("status", program.point).stdout.count("filesystem.unsaved") == 1
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: program.status()["ending"], END_S)
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: gone(pid), END_S)
    text = log.read_text()
    assert f"length={len(CONTENT)}" in text
    assert f"ended at once, by a second signal, with {len(CONTENT)} bytes of 1 file not on the server" in text


def test_a_second_signal_names_also_what_was_refused(program: Program, writer: Writers) -> None:
    log = program.folder / "log"
    process = program.mount_in_foreground("full", "-o", f"log_file={log}")
    writer.write(patterns=1000, piece=256_000)
    process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: "unmounted while in use" in log.read_text(), END_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == Exit.ABORTED, process.communicate()[1]
    said = process.communicate()[1]
    assert "not on the server: file='written' offset=0 length=256000: WRITE: DISK_FULL" in said
    assert said.endswith("with 256000 bytes of 1 file not on the server; the log names them\n")
