"""The command `smbfuse`, also as mount(8) calls it: one sentence and an exit code for whatever goes wrong.

What is slow to import comes after the password has left the command line.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from smbfuse import __version__
from smbfuse.cli import argv, checks, manual, settings
from smbfuse.cli.exits import CannotMount, Exit, exit_code, in_words
from smbfuse.cli.options import shown
from smbfuse.cli.settings import Request
from smbfuse.config import Config
from smbfuse.daemon import logs
from smbfuse.errors import SmbError
from smbfuse.fuse import mountinfo

log = logging.getLogger(__name__)

_COMMANDS: Final = frozenset({"status", "release", "watch"})
_HELP: Final = frozenset({"-h", "--help"})


class _Parser(argparse.ArgumentParser):
    """An argument parser that ends with one sentence, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise CannotMount(Exit.USAGE, f"{message}; see smbfuse --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    handler = logs.begin(verbosity=0, journal=False)
    exposed = argv.overwrite_passwords(given)
    try:
        code = _run(given, os.environ, handler, password_exposed=exposed)
        sys.stdout.flush()  # not at the interpreter's end, where a broken pipe is complained of in its own way
        return code
    except KeyboardInterrupt:
        return _fail(CannotMount(Exit.INTERRUPTED, "interrupted"))
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (CannotMount, SmbError, OSError) as error:
        return _fail(error)
    except Exception as error:
        log.debug("a bug", exc_info=error)
        return _fail(error)


def explain(error: BaseException) -> tuple[Exit, str]:
    """Return the exit code and the sentence for what ended a mount."""
    if isinstance(error, (CannotMount, SmbError)):
        return exit_code(error), str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Exit.SYSTEM, f"{where}{error.strerror or error}"
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "interrupted"
    kind = type(error).__name__
    return Exit.INTERNAL, f"this is a bug in smbfuse ({kind}: {error}); please report it with what -f -d prints"


def _fail(error: BaseException) -> int:
    code, sentence = explain(error)
    print(f"smbfuse: {shown(sentence)}", file=sys.stderr)
    return code


def _run(given: Sequence[str], environ: Mapping[str, str], handler: logging.Handler, *, password_exposed: bool) -> int:
    if given and given[0] in _COMMANDS and not _HELP.isdisjoint(given[1:]):
        print(manual.USAGE, end="")
        return Exit.OK
    if given[:1] == ["status"]:
        from smbfuse.cli import status  # rich is slow to import, and mounting does without it

        return status.run(given[1:], environ)
    if given[:1] == ["release"]:
        from smbfuse.cli import release  # as status

        return release.run(given[1:], environ)
    if given[:1] == ["watch"]:
        from smbfuse.cli import watch

        return watch.run(given[1:], environ)
    as_helper = Path(sys.argv[0]).name.startswith("mount.")
    parsed = _parser(as_helper=as_helper).parse_intermixed_args(list(given))
    if parsed.help:
        print(manual.help_text())
        return Exit.OK
    if parsed.version:
        print(f"smbfuse {__version__}")
        return Exit.OK
    request = _request(parsed)
    loaded = settings.load(request, environ)
    config = _with_flags(loaded.config, parsed)
    terminal = logs.begin(verbosity=config.process.verbosity, journal=_stderr_is_journal(environ))
    if password_exposed:
        log.warning("the password on the command line could be read by everybody until now; prefer credentials=FILE")
    for warning in loaded.warnings:
        log.warning("%s", warning)
    for note in loaded.notes:
        log.debug("%s", note)
    checks.check_fuse()
    checks.check_allow_other(config.mount)
    for done in checks.check_mountpoint(config.mount):
        print(f"smbfuse: {done}", file=sys.stderr)
    if parsed.fake:
        return Exit.OK
    if loaded.needs_password:
        config = settings.with_password(config, settings.ask_password(config.login, config.target.host))
    return _mount(config, environ, terminal)


def _mount(config: Config, environ: Mapping[str, str], terminal: logging.Handler) -> int:
    from smbfuse.daemon import process  # trio, pyfuse3, cryptography: a third of a second
    from smbfuse.daemon.saving import Aborted
    from smbfuse.daemon.service import Interrupted, Surroundings

    def explained(error: BaseException) -> process.Outcome:
        if isinstance(error, Interrupted):
            return process.Outcome(Exit.INTERRUPTED, str(error))
        if isinstance(error, Aborted):
            return process.Outcome(Exit.ABORTED, str(error))
        code, sentence = explain(error)
        return process.Outcome(code, in_words(code, sentence, config.target, config.login))

    surroundings = Surroundings(
        version=__version__,
        runtime_dir=environ.get("XDG_RUNTIME_DIR", ""),
        notify_socket=environ.get("NOTIFY_SOCKET", ""),
        system_bus=environ.get("DBUS_SYSTEM_BUS_ADDRESS", ""),
    )
    outcome = process.run(config, surroundings, explain=explained, terminal=terminal)
    if outcome.sentence:
        print(f"smbfuse: {shown(outcome.sentence)}", file=sys.stderr)
    return outcome.code


def _parser(*, as_helper: bool) -> argparse.ArgumentParser:
    """Return the parser; mount(8) means "do everything but mount" by -f, everybody else "stay in the foreground"."""
    parser = _Parser(prog="smbfuse", add_help=False, allow_abbrev=False)
    parser.add_argument("source", nargs="?")
    parser.add_argument("mountpoint", nargs="?")
    parser.add_argument("-o", "--options", action="append", default=[])
    parser.add_argument("-f", "--fake" if as_helper else "--foreground", action="store_true")
    parser.set_defaults(fake=False, foreground=False)
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-d", "--debug", action="store_true")
    parser.add_argument("-s", dest="sloppy", action="store_true")
    parser.add_argument("-r", "--read-only", dest="options", action="append_const", const="ro")
    parser.add_argument("-w", "--rw", dest="options", action="append_const", const="rw")
    parser.add_argument("-n", dest="_unused", action="store_true")
    parser.add_argument("-t", dest="_type", help=argparse.SUPPRESS)  # mount(8) names the type to its helpers
    parser.add_argument("-V", "--version", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    return parser


def _request(parsed: argparse.Namespace) -> Request:
    if parsed.source is None:
        raise CannotMount(Exit.USAGE, "what is to be mounted? write smbfuse //HOST/SHARE MOUNTPOINT")
    if parsed.mountpoint is None:
        raise CannotMount(Exit.USAGE, f"where is {shown(parsed.source)} to be mounted? give a folder after it")
    mountpoint = mountinfo.resolve(parsed.mountpoint)
    return Request(parsed.source, mountpoint, parsed.options, sloppy=parsed.sloppy)


def _with_flags(config: Config, parsed: argparse.Namespace) -> Config:
    process = replace(
        config.process,
        foreground=config.process.foreground or parsed.foreground or parsed.debug,
        verbosity=2 if parsed.debug else 1 if parsed.verbose else 0,
        log_file=os.path.abspath(config.process.log_file) if config.process.log_file else "",
    )
    return replace(config, process=process)


def _stderr_is_journal(environ: Mapping[str, str]) -> bool:
    """Tell whether systemd connected our standard error to the journal: $JOURNAL_STREAM is its device and inode."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


if __name__ == "__main__":
    sys.exit(main())
