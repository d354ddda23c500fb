"""A process on a mount that does what the test tells it, one step at a time, and keeps what it opened.

What a test cannot do with one command: hold files open while the server changes them, and look again later. The test's
own process never touches a mount.
"""

import contextlib
import json
import selectors
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.mounts import COMMAND_TIMEOUT_S, Mount, Unanswered

# Each line is a Python expression over `os`, the mount's folder `point` and the dict `kept`; it answers with JSON.
PROGRAM: Final = """
import json, os, sys
point, kept = sys.argv[1], {}
def stat_of(status):
    return {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
for line in sys.stdin:
    try:
        answer = {"value": eval(line)}
    except OSError as error:
        answer = {"errno": error.errno}
    print(json.dumps(answer), flush=True)
"""


class Caller:
    """Such a process. A step that ends with an OSError raises it here."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._process = mount.start("/usr/bin/python3", "-c", PROGRAM, mount.point)

    def do(self, expression: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Evaluate one expression there and return what JSON can carry of it.  Raises: OSError, Unanswered."""
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        asking.write(expression.encode() + b"\n")
        asking.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(answering, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                self._mount.abort()
                raise Unanswered(f"{expression} did not end within {timeout_s:g} s\n{self._mount.log_text()}")
        line = answering.readline()
        assert line, f"{expression} ended the process"
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], expression)
        return answer["value"]

    def open(self, key: str, path: str | Path) -> None:
        """Open a file of the mount for reading and keep its descriptor as `key`."""
        self.do(f"kept.__setitem__({key!r}, os.open(os.path.join(point, {str(path)!r}), os.O_RDONLY))")

    def close(self, key: str) -> None:
        """Close what `open` opened."""
        self.do(f"os.close(kept.pop({key!r}))")

    def fstat(self, key: str) -> dict[str, Any]:
        """Return the attributes of an open file."""
        return dict(self.do(f"stat_of(os.fstat(kept[{key!r}]))"))

    def stat(self, path: str | Path) -> dict[str, Any]:
        """Return the attributes of a path of the mount."""
        return dict(self.do(f"stat_of(os.lstat(os.path.join(point, {str(path)!r})))"))

    def read(self, key: str, length: int = 1 << 20, offset: int = 0) -> bytes:
        """Read from an open file."""
        return str(self.do(f"os.pread(kept[{key!r}], {length}, {offset}).decode('latin-1')")).encode("latin-1")

    def end(self) -> None:
        """Close all that is open and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(COMMAND_TIMEOUT_S)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def caller_on(mount: Mount) -> Iterator[Caller]:
    """Run a caller on `mount` for a while."""
    caller = Caller(mount)
    try:
        yield caller
    finally:
        caller.end()
