"""What the callers on a mount run: one process for each operation, all at the same moment. Standard library alone.

Its text is handed to an interpreter of the ordinary user (`crew.py`), who may not be able to read this file. The first
line of its input is the work, as JSON; each process goes into its folder and makes ready, and acts when a second line
comes. Each answers with one line of JSON, in one write: `ready` first, then what became of it and after how long.

A process for each, and not a thread: a mapped page that cannot be read stops the whole of Python, or ends it.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
import time
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def access(path: str, mode: int) -> None:
    """Do what `os.access` does, with the error that it does not tell."""
    if libc.access(os.fsencode(path), mode) != 0:
        raise OSError(ctypes.get_errno(), path)


def absent(path: str) -> bool:
    """Tell whether the answer is that there is no such name: no other error is that answer."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    return False


def content(offset: int, length: int) -> bytes:
    """Return what the large file holds there."""
    return bytes(at & 0xFF for at in range(offset, offset + length))


def mapped(fd: int, access: int = mmap.PROT_READ) -> mmap.mmap:
    """Map a file and touch nothing of it yet."""
    return mmap.mmap(fd, 0, prot=access)


def names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))


def put(fd: int, text: str) -> None:
    """Write at the beginning of a file."""
    os.pwrite(fd, text.encode(), 0)


def say(**told: Any) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def attempt(program: str, scope: dict[str, Any]) -> dict[str, Any]:
    """Run a program and return what became of it: nothing, an errno, or what it found wrong."""
    began = time.monotonic()
    told: dict[str, Any] = {}
    try:
        exec(program, scope)
    except OSError as error:
        told = {"errno": error.errno}
    except Exception as error:
        told = {"wrong": f"{type(error).__name__}: {error}"}
    return {**told, "seconds": time.monotonic() - began}


def work(task: dict[str, Any], go: int) -> None:
    """Make ready, wait for the word, act."""
    scope = {**globals(), **task["values"]}
    try:
        os.chdir(task["folder"])
    except OSError as error:
        say(name=task["name"], ready={"errno": error.errno})
        return
    said = attempt(task["before"], scope)
    say(name=task["name"], ready=said)
    if len(said) > 1:
        return
    os.read(go, 1)  # the word is the end of the pipe: it reaches all of them at once
    say(name=task["name"], **attempt(task["act"], scope))


def main() -> None:
    """Run all of the work, and say which process a signal has ended before it could answer."""
    tasks = json.loads(sys.stdin.readline())
    go, word = os.pipe()
    names = {}
    for task in tasks:
        pid = os.fork()
        if pid == 0:
            os.close(word)
            work(task, go)
            os._exit(0)
        names[pid] = task["name"]
    os.close(go)
    sys.stdin.readline()
    os.close(word)
    began = time.monotonic()
    while names:
        pid, status = os.wait()
        if os.WIFSIGNALED(status):
            say(name=names[pid], wrong=signal.Signals(os.WTERMSIG(status)).name, seconds=time.monotonic() - began)
        del names[pid]


if __name__ == "__main__":
    main()
