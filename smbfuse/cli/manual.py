"""What the program says of itself: --help, and docs/options.md, both printed from the table of options."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from smbfuse.cli import compatibility
from smbfuse.cli.options import PARTS, Option, Takes

USAGE: Final = """\
usage: smbfuse [-o OPTION[=VALUE][,…]]… [-f] [-v] [-d] SOURCE MOUNTPOINT
       smbfuse status [MOUNTPOINT] [--json]
       smbfuse release MOUNTPOINT
       smbfuse watch [-o OPTION[=VALUE][,…]]… [--json] [--flat] SOURCE|FOLDER

Mount an SMB share as an ordinary user; `fusermount3 -u MOUNTPOINT` undoes it.
`watch` mounts nothing: it prints what others change on the share, or in a
FOLDER that is mounted, a line each, until it is interrupted (`--flat`: in the
folder itself, not below).

SOURCE is //host/share, //host/share/folder, //host for the whole server, or
smb://[domain;][user@]host[:port]/share/folder.
"""

FLAGS: Final[Mapping[str, str]] = {
    "-o OPTIONS": "options, separated by commas; a comma in a value is written twice",
    "-f, --foreground": "stay in the foreground",
    "-v, --verbose": "log what happens",
    "-d, --debug": "log every message, and stay in the foreground",
    "-r, --read-only": "the same as -o ro",
    "-w, --rw": "the same as -o rw, which is the default",
    "-s": "note unknown options instead of refusing them",
    "-n": "taken from mount(8); there is no mtab to leave alone",
    "-V, --version": "print the version",
    "-h, --help": "print this",
}

_NARROW: Final = 100


def help_text(width: int | None = None) -> str:
    """Return what --help prints."""
    columns = min(width or shutil.get_terminal_size().columns, _NARROW)
    parts = [USAGE, "Flags:", *(_item(flag, text, columns) for flag, text in FLAGS.items())]
    for group, options in _groups(compatibility.table().options).items():
        if group in (compatibility.IGNORED, compatibility.REFUSED):
            names = ", ".join(name for option in options for name in option.names)
            parts += ["", f"{group}:", textwrap.fill(names, columns, initial_indent="  ", subsequent_indent="  ")]
        else:
            parts += ["", f"{group} (-o):", *(_item(_spelling(one), _explained(one), columns) for one in options)]
    return "\n".join(parts)


def markdown() -> str:
    """Return docs/options.md."""
    parts = [
        "# Options",
        "",
        "Printed from `smbfuse/config.py`, `smbfuse/cli/compatibility.py` and `smbfuse/cli/declined.py` by",
        "`python -m smbfuse.cli.options --markdown`; do not edit by hand.",
        "",
        "Options are written as `-o name=value,name,…`; the last one wins; a comma within a value is written twice,",
        "except through mount(8), which takes the second one away. The names are those of mount.cifs(8) wherever it",
        "has one. Sizes take `k`, `M`, `G`; times are seconds, or take `ms`, `s`, `min`, `h`. The same names stand in",
        "`/etc/smbfuse.conf` and `~/.config/smbfuse/smbfuse.conf`, a line each, below `[default]`, `[host]` or",
        "`[host:share]`.",
    ]
    for group, options in _groups(compatibility.table().options).items():
        parts += ["", f"## {group}", ""]
        if group in (compatibility.IGNORED, compatibility.REFUSED):
            parts += ["| option | why |", "|---|---|"]
            parts += [f"| {_cell(_spelling(one))} | {_text(one.help)} |" for one in options]
        else:
            parts += ["| option | default | meaning |", "|---|---|---|"]
            for one in options:
                default = f"`{one.default}`" if one.default else ""
                parts.append(f"| {_cell(_spelling(one))} | {default} | {_text(one.help)} |")
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print the table of options for `python -m smbfuse.cli.options`."""
    print(markdown() if "--markdown" in arguments else help_text(), end="" if "--markdown" in arguments else "\n")
    return 0


def _groups(options: Iterable[Option]) -> dict[str, list[Option]]:
    """Return options by heading: those of the configuration in its order, then the ones that do nothing."""
    headings = (*(heading for _, heading in PARTS.values()), compatibility.IGNORED, compatibility.REFUSED)
    groups: dict[str, list[Option]] = {heading: [] for heading in headings}
    for one in options:
        groups[one.group].append(one)
    return groups


def _spelling(option: Option) -> str:
    value = f"={option.metavar}" if option.metavar and option.takes is not Takes.FLAG else ""
    if option.negatable:
        return ", ".join(f"[no_]{name}" if "_" in name else f"[no]{name}" for name in option.names)
    return ", ".join(f"{name}{value}" for name in option.names)


def _explained(option: Option) -> str:
    return f"{option.help} [{option.default}]" if option.default else option.help


def _item(term: str, text: str, width: int) -> str:
    indent = " " * 26
    body = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
    return f"  {term}\n{body}" if len(term) > 22 else f"  {term:<24}{body[26:]}"


def _cell(spelling: str) -> str:
    return ", ".join(f"`{one}`" for one in spelling.replace("|", r"\|").split(", "))


def _text(text: str) -> str:
    return text.replace("|", r"\|")
