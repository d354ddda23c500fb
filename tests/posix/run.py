"""Run behaviours in a folder: python -m tests.posix.run FOLDER [NAME...], an ordinary user's work.

Each has an empty folder of its own and a process of its own, with a deadline: what the kernel has handed over to a
filesystem that does not answer is beyond every signal, so nobody waits for it. One line of JSON for each tells what
happened: {"name", "outcome", "errno", "detail", "seconds"}; the outcome is `passed`, `refused` (an OSError that nobody
expected), `differs` (another result) or `silent` (no end in time, and nothing after it is tried).
"""

import errno
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import tests.posix.behaviours  # noqa: F401  # fills the list
from tests.posix.behaviour import BEHAVIOURS, Behaviour

DEADLINE_S: Final = 30.0
NAMES: Final = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}  # else it would be called ENOTSUP


def attempt(behaviour: Behaviour, folder: Path) -> dict[str, Any]:
    """Make the folder, do it, and tell how it went."""
    try:
        folder.mkdir()
        behaviour(folder)
    except OSError as error:
        return {"outcome": "refused", "errno": NAMES.get(error.errno or 0, str(error.errno)), "detail": _where(error)}
    except Exception as error:  # whatever it is: the next behaviour has its turn
        return {"outcome": "differs", "errno": None, "detail": _where(error)}
    return {"outcome": "passed", "errno": None, "detail": ""}


def in_a_process(behaviour: Behaviour, folder: Path) -> dict[str, Any]:
    """Attempt it in a process of its own, for as long as the deadline allows."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()  # what it starts ends with it
        told = attempt(behaviour, folder)
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    deadline, answer = time.monotonic() + DEADLINE_S, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        if not (part := os.read(reading, 65536)):
            break
        answer += part
    os.close(reading)
    if left > 0:
        os.waitpid(pid, 0)
        dead = {"outcome": "differs", "errno": None, "detail": "its process died"}
        return dict(json.loads(answer)) if answer else dead
    os.killpg(pid, signal.SIGKILL)
    return {"outcome": "silent", "errno": None, "detail": f"no end within {DEADLINE_S:g} s"}


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "behaviours" in frame.filename]
    return f"{error!r} at " + " < ".join(f"{frame.line!r}" for frame in reversed(frames))


def main(folder: Path, names: list[str]) -> None:
    """Run them one after the other and print what happened."""
    os.umask(0o022)
    for name in names or BEHAVIOURS:
        began = time.monotonic()
        told = in_a_process(BEHAVIOURS[name], folder / name)
        print(json.dumps({"name": name, **told, "seconds": round(time.monotonic() - began, 3)}), flush=True)
        if told["outcome"] == "silent":
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
