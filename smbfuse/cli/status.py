"""`smbfuse status`: what the mounts of this machine say of themselves, through their control sockets."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import shown
from smbfuse.cli.values import show_size
from smbfuse.daemon import control
from smbfuse.fuse import mountinfo
from smbfuse.fuse.mountinfo import FUSE_TYPE

T = TypeVar("T")

PIPE_WIDTH: Final = 10_000  # columns of what is no terminal: who searches it searches for whole names
WIDE: Final = 110  # columns of a terminal that has room for the whole table; `smbfuse status MOUNTPOINT` says it all


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Print the status of one mount, or of all.  Raises: CannotMount."""
    as_json = "--json" in arguments
    rest = [one for one in arguments if one != "--json"]
    if any(one.startswith("-") for one in rest) or len(rest) > 1:
        raise CannotMount(Exit.USAGE, "usage: smbfuse status [MOUNTPOINT] [--json]")
    folders = socket_folders(environ)
    if rest:
        status = one_status(mountinfo.resolve(rest[0]), folders)
        print(json.dumps(status, indent=2)) if as_json else _print_details(status)
        return Exit.OK
    everything = all_statuses(folders)
    if as_json:
        print(json.dumps(everything, indent=2))
    elif everything:
        _print_table(everything)
    else:
        print("nothing is mounted", file=sys.stderr)
    return Exit.OK


def one_status(mountpoint: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Return the status of the mount at `mountpoint`.  Raises: CannotMount if none answers for it."""
    return ask_mount(mountpoint, folders, "status", lambda answer: answer.get("status"), dict)


def ask_mount(
    mountpoint: str, folders: Sequence[Path], request: str, read: Callable[[Mapping[str, Any]], Any], kind: type[T]
) -> T:
    """Return what the mount at `mountpoint` answers, as `read` finds it.  Raises: CannotMount if none answers so."""
    for folder in folders:
        try:
            answer = read(control.ask(control.socket_path(folder, mountpoint), {"request": request}))
        except (OSError, ValueError):
            continue
        if isinstance(answer, kind):
            return answer
    entry = mountinfo.mounted_at(mountpoint)
    if entry is None or entry.filesystem != FUSE_TYPE:
        raise CannotMount(Exit.USAGE, f"{shown(mountpoint)} is no mount point of smbfuse")
    raise CannotMount(
        Exit.SYSTEM, f"the smbfuse behind {shown(mountpoint)} does not answer: it is another user's, or was killed"
    )


def all_statuses(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the status of every mount that answers, by mount point; a socket that a killed one left is taken away."""
    found = []
    for path in control.sockets(folders):
        try:
            status = control.ask(path, {"request": "status"}).get("status")
        except ConnectionRefusedError:
            control.bury(path)
            continue
        except (OSError, ValueError):
            continue
        if isinstance(status, dict):
            found.append(status)
    return sorted(found, key=lambda status: str(status.get("mountpoint")))


def socket_folders(environ: Mapping[str, str]) -> list[Path]:
    """Return where sockets of mounts may be that we may ask."""
    own = control.folder_for(os.geteuid(), environ.get("XDG_RUNTIME_DIR", ""))
    # A mount made without $XDG_RUNTIME_DIR (by cron, say) is asked for in a session that has it.
    other = control.folder_for(os.geteuid(), "")
    folders = [own, other, *(control.all_folders() if os.geteuid() == 0 else [])]
    return list(dict.fromkeys(folders))


def _print_table(everything: Sequence[Mapping[str, Any]]) -> None:
    console = _console()
    wide = console.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("mount point", "source"):
        table.add_column(heading, overflow="fold")
    for heading in ("protocol", "protection", *(("login", "received", "cached") if wide else ())):
        table.add_column(heading, no_wrap=True)
    for status in everything:
        share: Mapping[str, Any] = next(iter(status.get("shares", [])), {})
        row = [
            _plain(status.get("mountpoint")),
            _plain(status.get("source")),
            _plain(_protocol(status.get("connection"), share)),
            _protection(share),
        ]
        if wide:
            row += [
                _plain(share.get("login", "")),
                _size(share.get("bytes_received")),
                _size(status.get("filesystem", {}).get("blocks", {}).get("held")),
            ]
        table.add_row(*row)
    console.print(table)
    for status in everything:
        if reason := status.get("reason"):
            console.print(f"{_plain(status.get('mountpoint'))}: {_plain(reason)}")


def _print_details(status: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in _flatten(status):
        table.add_row(key, _plain(value))
    _console().print(table)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested mappings and lists as `outer.inner` rows."""
    rows: list[tuple[str, Any]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            rows += _flatten(inner, f"{name}.")
        elif isinstance(inner, list) and inner and all(isinstance(one, Mapping) for one in inner):
            for number, one in enumerate(inner):
                rows += _flatten(one, f"{name}[{number}].")
        else:
            rows.append((name, inner))
    return rows


def _protocol(connection: object, share: Mapping[str, Any]) -> str:
    """Return the dialect, and what has become of the connection if it is not what it should be."""
    dialect = str(share.get("dialect") or share.get("error", ""))
    return f"{dialect} ({connection})" if connection not in (None, "connected", "probing") else dialect


def _protection(share: Mapping[str, Any]) -> str:
    if share.get("sealing"):
        return f"encrypted, {_plain(share['sealing'])}"
    return f"signed, {_plain(share['signing'])}" if share.get("signing") else "none"


def _plain(value: Any) -> str:
    """Return text that neither the terminal nor rich's markup takes for more than text."""
    return shown(str(value)).replace("[", r"\[")


def _size(value: Any) -> str:
    return show_size(value) if isinstance(value, int) and value % 1024 == 0 else f"{(value or 0) / 2**20:.1f} MiB"
