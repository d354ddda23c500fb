"""A mount of the tests' own filesystem, in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import mount_table
from tests.support.samba import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """`tests.fuse.served` running on a mount point."""

    def __init__(self, point: Path, process: "subprocess.Popen[str]", log: Path) -> None:
        self.point = point
        self.process = process
        self.log = log

    def run(self, *command: str | Path, timeout_s: float = 10) -> "subprocess.CompletedProcess[str]":
        """Run a command that touches the mount, with a deadline."""
        return subprocess.run(
            list(command), capture_output=True, text=True, errors="surrogateescape", timeout=timeout_s, check=False
        )

    def python(self, program: str) -> str:
        """Run Python with the mount point as its argument; return what it prints."""
        ran = self.run(sys.executable, "-c", program, self.point)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def end(self) -> dict[str, Any]:
        """Unmount and return what was seen."""
        subprocess.run(["fusermount3", "-u", self.point], timeout=10, check=True)
        out, _ = self.process.communicate(timeout=10)
        assert self.process.returncode == 0, self.log.read_text()
        seen = json.loads(out)
        assert isinstance(seen, dict)
        return seen


@pytest.fixture
def served(folder: Path) -> Iterator[Callable[..., Served]]:
    """Provide `served("source", "rw", …)`: the tests' filesystem, mounted."""
    with contextlib.ExitStack() as stack:

        def start(source: str = "test", *words: str) -> Served:
            point = folder / "mount"
            point.mkdir()
            log = folder / "log"
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuse.served", point, source, *words],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("w")),
                text=True,
            )
            running = Served(point, process, log)
            stack.callback(_end, running)
            assert wait_for(lambda: point in mount_table() or process.poll() is not None, 20), "not mounted"
            assert process.poll() is None, log.read_text()
            return running

        yield start


def _end(running: Served) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(10)
    if running.process.stdout is not None:
        running.process.stdout.close()
    if running.point in mount_table():
        subprocess.run(["fusermount3", "-uz", running.point], timeout=10, check=False)
