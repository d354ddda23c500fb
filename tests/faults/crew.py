"""A crew on a mount: a process for each operation, which all make ready, and all act at one word."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.faults import program
from tests.faults.operations import VALUES, Operation
from tests.support.mounts import Mount, Unanswered

READY_TIMEOUT_S: Final = 60.0
TOO_LATE_S: Final = 60.0  # what has not come by then will not come: the mount is ended, to free whoever waits
END_TIMEOUT_S: Final = 20.0


class Outcome(NamedTuple):
    """What one operation came to."""

    errno: int | None  # None: it succeeded, or see `wrong`
    wrong: str  # what it found that cannot be: other bytes than there are, a signal; "" for nothing
    seconds: float


class Crew:
    """The processes, and what passes between them and the test."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._awaited: set[str] = set()
        self._process = mount.start("/usr/bin/python3", "-c", Path(program.__file__).read_text(encoding="utf-8"))
        self._rest = b""

    def make_ready(self, folder: Path, operations: Sequence[Operation]) -> None:
        """Have a process for each operation go into the folder of its name below `folder`, and wait for the word."""
        self._awaited = {operation.name for operation in operations}
        tasks = [
            {"name": one.name, "folder": str(folder / one.name), "before": one.before, "act": one.act, "values": VALUES}
            for one in operations
        ]
        self._write(json.dumps(tasks))
        unready = {name: said for name, said in self._lines(READY_TIMEOUT_S) if len(said["ready"]) > 1}
        assert not unready, f"not ready: {unready}\n{self._mount.log_text()}"

    def go(self) -> None:
        """Give the word."""
        self._write("go")

    def answers(self) -> dict[str, Outcome]:
        """Return what each operation came to.  Raises: Unanswered, with those that came to nothing."""
        return {
            name: Outcome(said.get("errno"), said.get("wrong", ""), said["seconds"])
            for name, said in self._lines(TOO_LATE_S)
        }

    def end(self) -> None:
        """Wait for the processes to end; one that does not is freed by ending the mount."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._mount.abort()
            self._process.wait(END_TIMEOUT_S)

    def _write(self, line: str) -> None:
        asking = self._process.stdin
        assert asking is not None
        asking.write(line.encode() + b"\n")
        asking.flush()

    def _lines(self, timeout_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield one line of each process."""
        waiting = set(self._awaited)
        answering = self._process.stdout
        assert answering is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(answering, selectors.EVENT_READ)
            while waiting:
                while b"\n" not in self._rest:
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        self._process.kill()
                        self._mount.abort()
                        raise Unanswered(f"no answer to {sorted(waiting)} in {timeout_s:g} s\n{self._mount.log_text()}")
                    chunk = answering.read1(65536)  # type: ignore[attr-defined]  # a BufferedReader
                    assert chunk, f"the crew ended, without {sorted(waiting)}: {self._complaint()}"
                    self._rest += chunk
                line, _, self._rest = self._rest.partition(b"\n")
                said = json.loads(line)
                name = said.pop("name")
                waiting.remove(name)
                yield name, said

    def _complaint(self) -> str:
        stderr = self._process.stderr
        assert stderr is not None
        return stderr.read().decode(errors="replace")


@contextlib.contextmanager
def crew_on(mount: Mount, folder: Path, operations: Sequence[Operation]) -> Iterator[Crew]:
    """Have a crew on `mount`, which waits for the word, each operation in a folder of its name below `folder`."""
    crew = Crew(mount)
    try:
        crew.make_ready(folder, operations)
        yield crew
    finally:
        crew.end()
