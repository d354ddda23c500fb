"""smbfuse as a program with a server in memory; every mount that a test leaves behind is undone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import mount_table
from tests.support.samba import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Program:
    """Runs the program in a test's own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.point = folder / "mount"
        self.point.mkdir()
        self.runtime = folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.trace_file = folder / "trace"
        self.trace_file.touch()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TRACE": str(self.trace_file),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "USER": "somebody",
            "PASSWD": "first",
        }
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str | Path, timeout_s: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run to the end."""
        return subprocess.run(
            [sys.executable, "-m", "tests.daemon.program", *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # no terminal to ask on
        )

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Start, and leave it running."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.daemon.program", *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def mount(self, host: str = "memory", *arguments: str) -> int:
        """Mount in the background and return the daemon's process id."""
        ran = self.run(f"//{host}/share", self.point, *arguments)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        return int(self.status()["pid"])

    def mount_in_foreground(self, host: str = "memory", *arguments: str) -> "subprocess.Popen[str]":
        """Mount in the foreground and return the process when the mount is there."""
        process = self.start(f"//{host}/share", self.point, "-f", *arguments)
        assert wait_for(lambda: self.mounted() or process.poll() is not None, 20)
        assert process.poll() is None, process.communicate()[1]
        return process

    def status(self) -> dict[str, Any]:
        """Return the mount's status."""
        ran = self.run("status", self.point, "--json")
        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)
        assert isinstance(told, dict)
        return told

    def mounted(self) -> bool:
        """Tell whether something is mounted."""
        return self.point in mount_table()

    def trace(self) -> list[str]:
        """Return what was done to the server."""
        return self.trace_file.read_text().splitlines()

    def unmount(self) -> None:
        """Unmount as a user does."""
        subprocess.run(["fusermount3", "-u", self.point], timeout=10, check=True)

    def read(self) -> str:
        """Read the file on the mount, in a process of its own."""
        return subprocess.run(
            ["cat", self.point / "file"], capture_output=True, text=True, timeout=10, check=False
        ).stdout

    def end(self) -> None:
        """Leave nothing behind."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate(timeout=10)
        if self.mounted():
            with contextlib.suppress(Exception):
                os.kill(int(self.status()["pid"]), signal.SIGKILL)
            subprocess.run(["fusermount3", "-uz", self.point], timeout=10, check=False)


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    """Provide the program."""
    made = Program(folder)
    yield made
    made.end()


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"
