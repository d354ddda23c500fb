"""`smbfuse watch`: what others change on a share, or in a folder of a mount, one line each, as it happens."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from smbfuse.cli import settings
from smbfuse.cli.exits import CannotMount, Exit, exit_code, in_words
from smbfuse.cli.options import shown
from smbfuse.cli.settings import Request
from smbfuse.cli.source import parse_source
from smbfuse.cli.status import one_status, socket_folders
from smbfuse.daemon import control
from smbfuse.errors import SmbError, Unsupported
from smbfuse.fuse import mountinfo
from smbfuse.share import Happened, Notice

USAGE = "usage: smbfuse watch [-o OPTION[=VALUE][,…]]… [--json] [--flat] SOURCE|FOLDER"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CannotMount(Exit.USAGE, f"{message}; {USAGE}")


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Print what happens in a share, or in a folder of a mount, until a signal comes.

    Raises: CannotMount, and what `watch_share` and `hear_of_mounted` raise.
    """
    parser = _Parser(prog="smbfuse watch", add_help=False, allow_abbrev=False)
    parser.add_argument("source")
    parser.add_argument("-o", "--options", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--flat", action="store_true")
    parsed = parser.parse_args(list(arguments))
    try:
        if _is_share(parsed.source):
            _watch_share(parsed, environ)
        else:
            _watch_mounted(parsed, environ)
    except Unsupported as error:
        raise CannotMount(Exit.MOUNT_FAILED, f"the server does not tell of changes ({error})") from None
    return Exit.OK


def _is_share(source: str) -> bool:
    """Tell whether a share is meant, not a folder that is mounted."""
    if mountinfo.containing(source) is not None and not source.startswith(("//", "\\\\")):
        return False
    parse_source(source)  # which says what a share looks like
    return True


def _watch_share(parsed: argparse.Namespace, environ: Mapping[str, str]) -> None:
    import trio  # it takes long, as what it runs

    from smbfuse.daemon.watching import watch_share

    loaded = settings.load(Request(parsed.source, "/", parsed.options), environ)
    config = loaded.config
    for warning in loaded.warnings:
        print(f"smbfuse: {shown(warning)}", file=sys.stderr)
    if config.target.whole_server:
        raise CannotMount(Exit.USAGE, f"which share of {shown(config.target.host)} is to be watched? name it")
    if loaded.needs_password:
        config = settings.with_password(config, settings.ask_password(config.login, config.target.host))

    def offline(error: SmbError) -> None:
        _say_offline(str(error))

    told = functools.partial(_print, str(config.target), as_json if parsed.json else as_text)
    try:
        trio.run(functools.partial(watch_share, config, told, offline, recursive=not parsed.flat))
    except Unsupported:
        raise
    except SmbError as error:
        code = exit_code(error)
        raise CannotMount(code, in_words(code, str(error), config.target, config.login)) from None


def _watch_mounted(parsed: argparse.Namespace, environ: Mapping[str, str]) -> None:
    import trio

    from smbfuse.daemon.watching import hear_of_mounted

    found = mountinfo.containing(parsed.source)
    assert found is not None
    entry, below = found
    if parsed.options:
        raise CannotMount(Exit.USAGE, f"{shown(parsed.source)} is mounted, with options of its own: leave out -o")
    folders = socket_folders(environ)
    one_status(entry.mountpoint, folders)  # which says what is wrong, if nobody answers
    socket = next(path for one in folders if (path := control.socket_path(one, entry.mountpoint)).exists())
    request = {"request": "watch", "path": below, "recursive": not parsed.flat}
    told = functools.partial(_print, parsed.source, as_json if parsed.json else as_text)
    trio.run(hear_of_mounted, socket, request, told, _say_offline)


def _print(watched: str, line: Callable[[Notice], str], notices: Sequence[Notice]) -> None:
    if not notices:
        print(f"smbfuse: watching {shown(watched)}", file=sys.stderr)
    for notice in notices:
        print(line(notice))
    sys.stdout.flush()


def _say_offline(sentence: str) -> None:
    print(f"smbfuse: {shown(sentence)}; connecting again", file=sys.stderr)


def as_text(notice: Notice) -> str:
    """Return a line for people: what happened, and to which path below the watched folder."""
    what = notice.what.name.lower()
    if notice.what is Happened.ANYTHING:
        return f"{what:<9} may have changed: too much at once, or the connection was lost"
    if notice.what is Happened.RENAMED:
        return f"{what:<9} {shown(notice.old_path)} -> {shown(notice.path)}"
    return f"{what:<9} {shown(notice.path)}"


def as_json(notice: Notice) -> str:
    """Return a line for programs: an object with `what`, and `path` and `old_path` where there are any."""
    line = {"what": notice.what.name.lower(), "path": notice.path, "old_path": notice.old_path}
    return json.dumps({key: value for key, value in line.items() if value})
