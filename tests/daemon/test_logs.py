"""The log: one line a record, nothing raw from a server, no traceback for a user."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smbfuse.daemon import logs


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.raiseExceptions = True


def record(message: str, *arguments: object, level: int = logging.INFO, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError("bad\x1b[2J")
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("x", level, "file", 1, message, arguments, info)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("plain Größe 🐙", "plain Größe 🐙"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("two\nlines", r"two\nlines"),
        ("\r\x00\x7f\x9b", r"\r\x00\x7f\x9b"),
    ],
)
def test_names_of_servers_reach_no_terminal_raw(name: str, shown: str) -> None:
    assert logs.Plain("%(message)s", tracebacks=True).format(record("found %s", name)) == f"found {shown}"


def test_a_bug_is_one_line_for_a_user_and_a_traceback_for_the_log() -> None:
    bug = record("it failed", error=True)
    assert logs.Plain("%(message)s", tracebacks=False).format(bug) == r"it failed (ValueError: bad\x1b[2J)"
    assert "Traceback (most recent call last)" in logs.Plain("%(message)s", tracebacks=True).format(bug)


def test_the_journal_gets_priorities() -> None:
    formatter = logs.Plain("%(message)s", tracebacks=False, priorities=True)
    assert formatter.format(record("x", level=logging.ERROR)) == "<3>x"
    assert formatter.format(record("x", level=logging.DEBUG)) == "<7>x"


@pytest.mark.parametrize("verbosity, shown", [(0, 1), (1, 2), (2, 3), (7, 3)])
def test_verbosity(verbosity: int, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin(verbosity=verbosity, journal=False)
    log = logging.getLogger("smbfuse.test")
    log.debug("message")
    log.info("event")
    log.error("trouble")
    assert len(capsys.readouterr().err.splitlines()) == shown


def test_after_the_terminal_only_the_file_hears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = logs.begin(verbosity=0, journal=False)
    logs.also_to_file(str(tmp_path / "log"))
    logs.detach(terminal)
    logging.getLogger("smbfuse.test").error("trouble \udcff")
    logging.shutdown()
    assert capsys.readouterr().err == ""
    assert (tmp_path / "log").read_text().rstrip().endswith("smbfuse.test ERROR trouble \\udcff")
