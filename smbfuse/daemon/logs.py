"""Where the log goes: the terminal while somebody looks at it, then syslog, the journal, or a file."""

import logging
import logging.handlers
import os
import re
import sys
from pathlib import Path
from typing import Final

_SYSLOG: Final = Path("/dev/log")
_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_LIBRARIES: Final = ("pyfuse3", "spnego", "trio")  # they speak to their developers at DEBUG
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\n(?!\Z)")
# The journal reads priorities from '<N>' at the start of a line; syslog(3).
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class Plain(logging.Formatter):
    """Names come from servers: control characters never reach a terminal or a log raw. One record is one line.

    Without `tracebacks` a bug is one line as well; the user can do nothing with the rest.
    """

    def __init__(self, layout: str, *, tracebacks: bool, priorities: bool = False) -> None:
        super().__init__(layout)
        self._tracebacks = tracebacks
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        message, cached = record.exc_info, record.exc_text
        if not self._tracebacks:
            record.exc_info = record.exc_text = None
        text = super().format(record)
        record.exc_info, record.exc_text = message, cached
        head, newline, trace = text.partition("\nTraceback ")
        line = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], head)
        if not self._tracebacks and message is not None and message[0] is not None:
            line += f" ({message[0].__name__}: {ascii(str(message[1]))[1:-1]})"
        line += newline + trace
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._priorities else line


def begin(*, verbosity: int, journal: bool) -> logging.Handler:
    """Log to standard error and return the handler, for `detach`."""
    logging.raiseExceptions = False  # a closed terminal is no reason for a traceback
    handler = logging.StreamHandler(sys.stderr)
    layout = "%(message)s" if journal and verbosity < 2 else "smbfuse: %(levelname)s: %(message)s"
    if verbosity >= 2:
        layout = "%(asctime)s %(name)s %(levelname)s %(message)s"
    handler.setFormatter(Plain(layout, tracebacks=journal or verbosity >= 2, priorities=journal))
    root = logging.getLogger()
    # Without the second one, logging would speak to the terminal by itself once the first is taken away.
    root.handlers[:] = [handler, logging.NullHandler()]
    root.setLevel(_LEVELS[min(verbosity, 2)])
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if verbosity >= 2 else logging.WARNING)
    return handler


def also_to_file(path: str) -> logging.Handler:
    """Log to a file as well.  Raises: OSError."""
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(Plain("%(asctime)s %(name)s %(levelname)s %(message)s", tracebacks=True))
    logging.getLogger().addHandler(handler)
    return handler


def also_to_syslog(tag: str) -> None:
    """Log to syslog as well, where there is one; the journal listens there too."""
    if not _SYSLOG.exists():
        return
    try:
        handler = logging.handlers.SysLogHandler(str(_SYSLOG), logging.handlers.SysLogHandler.LOG_DAEMON)
    except OSError:
        return
    handler.ident = f"{tag}[{os.getpid()}]: "
    handler.setFormatter(Plain("%(message)s", tracebacks=True))
    logging.getLogger().addHandler(handler)


def detach(handler: logging.Handler) -> None:
    """Log no longer to `handler`."""
    logging.getLogger().removeHandler(handler)
