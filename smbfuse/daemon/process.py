"""The process around a mount: forked before trio and threads, heard of through a pipe, silent afterwards.

The parent waits at the pipe until the child says that the root was listed, or in one sentence why there is no mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from smbfuse.config import Config
from smbfuse.daemon import logs
from smbfuse.daemon.service import Service, Surroundings
from smbfuse.daemon.survivor import Survivor
from smbfuse.errors import SmbError

log = logging.getLogger(__name__)

GARBAGE_AFTER: Final = 20_000  # objects made and not freed, until the garbage collector looks at them
_PR_SET_DUMPABLE: Final = 4  # prctl(2)


class Outcome(NamedTuple):
    """How starting a mount, or a whole mount in the foreground, has ended."""

    code: int
    sentence: str  # '' if there is nothing to say


Explain = Callable[[BaseException], Outcome]
"""Turns what ended a mount into an exit code and a sentence."""


def run(config: Config, surroundings: Surroundings, *, explain: Explain, terminal: logging.Handler) -> Outcome:
    """Mount in the foreground until the end, or in the background until the mount is ready.

    `terminal` is the log's handler for the user's eyes; a daemon takes it away when it is ready.
    """
    harden()
    if config.process.foreground:
        outcome, error = _serve(config, surroundings, explain=explain, ready=lambda: None)
        log.debug("ended: %s", outcome.sentence or "as wished", exc_info=error)
        return outcome
    return _run_in_background(config, surroundings, explain=explain, terminal=terminal)


def harden() -> None:
    """Keep passwords and keys out of core dumps, and other processes of the user out of our memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _serve(
    config: Config, surroundings: Surroundings, *, explain: Explain, ready: Callable[[], None]
) -> tuple[Outcome, BaseException | None]:
    """Run the mount in this process; return how it ended, and the error behind that for the log."""
    try:
        if config.process.log_file:
            logs.also_to_file(config.process.log_file)
        _calm_the_garbage_collector()
        with Survivor() as survivor:
            trio.run(Service(config, surroundings, survivor).run, ready)
    except BaseException as error:
        return explain(error), error
    return Outcome(0, ""), None


def _calm_the_garbage_collector() -> None:
    """Have the garbage collector look less often, and never at what was imported.

    Hardly anything here is garbage in cycles, but every open file is a dozen new objects that live on for a while. By
    its defaults the collector takes a tenth of the time of a walk over small files: 60 of 620 µs a file, and so 2.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 10, 10)


def _run_in_background(
    config: Config, surroundings: Surroundings, *, explain: Explain, terminal: logging.Handler
) -> Outcome:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(writing)
        return _wait_for(child, reading)
    code = 4
    try:
        _leave_the_terminal(keep=writing)
        logs.also_to_syslog("smbfuse")

        report = _Report(writing)

        def ready() -> None:
            # Not before: to an automount, only the process group that it has asked to mount is no visitor.
            os.setsid()
            report.say(Outcome(0, ""))
            logs.detach(terminal)
            _silence(1, 2)

        outcome, error = _serve(config, surroundings, explain=explain, ready=ready)
        report.say(outcome)
        logs.detach(terminal)  # the parent tells the user; this is for those who read the log later
        if outcome.sentence:
            log.error("%s", outcome.sentence, exc_info=None if isinstance(error, SmbError) else error)
        code = outcome.code
    finally:
        # Never back into the caller's frames: they belong to the parent.
        logging.shutdown()
        os._exit(code)


def _wait_for(child: int, reading: int) -> Outcome:
    """Return what the child says first."""
    try:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        raise
    try:
        code, sentence = json.loads(said)
        return Outcome(int(code), str(sentence))
    except (ValueError, TypeError):
        return Outcome(4, "smbfuse ended before the mount was ready, and did not say why; try again with -f -d")


class _Report:
    """The child's end of the pipe: the first word is sent, and the pipe is closed behind it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def say(self, outcome: Outcome) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):  # the parent was killed: nobody wants to know
            os.write(descriptor, json.dumps(outcome).encode())
        os.close(descriptor)


def _leave_the_terminal(*, keep: int) -> None:
    """Keep nothing of the caller's open but standard output and error.

    Those stay until the mount is ready, for warnings; a shell that reads them is not kept waiting after that.
    """
    os.chdir("/")
    os.umask(0o077)
    _silence(0)
    highest = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, keep)
    os.closerange(keep + 1, min(highest, 65536) if highest > 0 else 1024)


def _silence(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)
