"""`smbfuse watch`: what others change on a share, one line each, as it happens."""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from smbfuse.cli import settings
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import shown
from smbfuse.cli.settings import Request
from smbfuse.errors import SmbError, Unsupported
from smbfuse.share import Happened, Notice

USAGE = "usage: smbfuse watch [-o OPTION[=VALUE][,…]]… [--json] [--flat] SOURCE"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CannotMount(Exit.USAGE, f"{message}; {USAGE}")


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Print what happens in a share until a signal comes.  Raises: CannotMount, and what `watch_share` raises."""
    import trio  # it takes long, as what it runs

    from smbfuse.daemon.watching import watch_share

    parser = _Parser(prog="smbfuse watch", add_help=False, allow_abbrev=False)
    parser.add_argument("source")
    parser.add_argument("-o", "--options", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--flat", action="store_true")
    parsed = parser.parse_args(list(arguments))
    loaded = settings.load(Request(parsed.source, "/", parsed.options), environ)
    config = loaded.config
    for warning in loaded.warnings:
        print(f"smbfuse: {shown(warning)}", file=sys.stderr)
    if config.target.whole_server:
        raise CannotMount(Exit.USAGE, f"which share of {shown(config.target.host)} is to be watched? name it")
    if loaded.needs_password:
        config = settings.with_password(config, settings.ask_password(config.login, config.target.host))

    def told(notices: Sequence[Notice]) -> None:
        if not notices:
            print(f"smbfuse: watching {shown(str(config.target))}", file=sys.stderr)
        for notice in notices:
            print(as_json(notice) if parsed.json else as_text(notice))
        sys.stdout.flush()

    def offline(error: SmbError) -> None:
        print(f"smbfuse: {shown(str(error))}; connecting again", file=sys.stderr)

    try:
        trio.run(functools.partial(watch_share, config, told, offline, recursive=not parsed.flat))
    except Unsupported as error:
        sentence = f"{shown(config.target.host)} does not tell of changes ({error})"
        raise CannotMount(Exit.MOUNT_FAILED, sentence) from None
    return Exit.OK


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
