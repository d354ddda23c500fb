"""`-o` options: declared in config.py, parsed here, printed by manual.py.

An option's text becomes one or more `Option` calls on a `Draft`, last wins; the draft becomes the frozen `Config`.
"""

import dataclasses
import difflib
import enum
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from smbfuse import config
from smbfuse.cli import values
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.config import Config

# The parts whose fields are options, with the headings of --help.
PARTS: Final[Mapping[str, tuple[type, str]]] = {
    "login": (config.Login, "Login"),
    "security": (config.Security, "Protection"),
    "target": (config.Target, "Server"),
    "network": (config.Network, "Network"),
    "cache": (config.Cache, "Caching"),
    "view": (config.View, "How files look"),
    "mount": (config.Mount, "Mount"),
    "process": (config.Process, "Process"),
}


@dataclass(slots=True)
class Draft:
    """A configuration in the making: which fields were set, and what the parser has to say about it."""

    settings: dict[tuple[str, str], Any] = field(default_factory=dict)
    source: str = ""  # as the command line or `source=` gave it
    username: str | None = None  # with its domain and password, not taken apart yet
    prefix: str = ""  # prefixpath=
    credentials: str = ""  # path of a credentials file
    umask: int | None = None
    sloppy: bool = False  # unknown options are noted, not refused
    notes: list[str] = field(default_factory=list)  # for the debug log
    warnings: list[str] = field(default_factory=list)  # for the user

    def put(self, part: str, name: str, value: Any) -> None:
        """Set a field; the last call wins."""
        self.settings[part, name] = value

    def get(self, part: str, name: str) -> Any:
        """Return a field's value: as set, else its default."""
        if (part, name) in self.settings:
            return self.settings[part, name]
        return next(one.default for one in dataclasses.fields(PARTS[part][0]) if one.name == name)

    def is_set(self, part: str, name: str) -> bool:
        return (part, name) in self.settings

    def part(self, part: str) -> dict[str, Any]:
        """Return the fields set of one part, as keyword arguments of its class."""
        return {name: value for (owner, name), value in self.settings.items() if owner == part}


class Takes(enum.Enum):
    """Whether an option is written with a value behind '='."""

    FLAG = "flag"
    VALUE = "value"
    EITHER = "either"


Apply = Callable[[Draft, str, bool], None]
"""(draft, text behind '=' or '', False for the `no…` form) -> None; raises ValueError with half a sentence."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: how it is written, what it does, what the manual says."""

    names: tuple[str, ...]
    help: str
    group: str
    apply: Apply
    takes: Takes = Takes.VALUE
    metavar: str = ""
    default: str = ""
    negatable: bool = False  # a flag with a `no…` twin


def from_config() -> Iterator[Option]:
    """Make an option of every field that config.py declares as one."""
    for part, (owner, heading) in PARTS.items():
        hints = typing.get_type_hints(owner)
        for declared in dataclasses.fields(owner):
            if declared.metadata:
                yield _field_option(part, heading, declared, hints[declared.name])


def split_options(text: str) -> list[tuple[str, str | None]]:
    """Split `a,b=c` into (name, value or None); `,,` is a comma within a value, as the kernel's parser has it."""
    pairs: list[tuple[str, str | None]] = []
    for item in text.replace(",,", "\0").split(","):
        name, equals, value = item.replace("\0", ",").partition("=")
        if name or equals:
            pairs.append((name, value if equals else None))
    return pairs


class OptionTable:
    """All options by every name they go by."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = options
        self._by_name: dict[str, tuple[Option, bool]] = {}
        for one in options:
            for name in one.names:
                self._add(name, one, on=True)
                if one.negatable:
                    self._add("no" + name, one, on=False)
                    if "_" in name:
                        self._add("no_" + name, one, on=False)

    def names(self) -> list[str]:
        """Return every name that is understood."""
        return list(self._by_name)

    def apply(self, draft: Draft, text: str) -> None:
        """Apply a whole `-o` text to the draft.  Raises CannotMount naming the option that cannot be."""
        for name, value in split_options(text):
            self.set(draft, name, value)

    def set(self, draft: Draft, name: str, value: str | None, *, origin: str = "") -> None:
        """Apply one option; `origin` names the file it stands in, '' for the command line."""
        where = f" in {origin}" if origin else ""
        if name.startswith("x-"):
            draft.notes.append(f"option {name}{where} is for other programs")
            return
        if name not in self._by_name:
            self._unknown(draft, name, where)
            return
        option, on = self._by_name[name]
        if value is None and option.takes is Takes.VALUE:
            metavar = option.metavar or "VALUE"
            raise CannotMount(Exit.BAD_VALUE, f"option {name}{where} needs a value: {name}={metavar}")
        if value is not None and (option.takes is Takes.FLAG or not on):
            raise CannotMount(Exit.BAD_VALUE, f"option {name}{where} takes no value; write it without ={shown(value)}")
        try:
            option.apply(draft, value or "", on)
        except ValueError as error:
            # A password is never repeated; every other value helps to find the mistake.
            quoted = "" if name.startswith("pass") else f"={shown(value or '')}"
            raise CannotMount(Exit.BAD_VALUE, f"option {name}{quoted}{where}: the value {error}") from None

    def _add(self, name: str, option: Option, *, on: bool) -> None:
        if name in self._by_name:
            raise AssertionError(f"two options are called {name}")
        self._by_name[name] = (option, on)

    def _unknown(self, draft: Draft, name: str, where: str) -> None:
        if draft.sloppy:
            draft.notes.append(f"option {shown(name)}{where} is unknown, and ignored (sloppy)")
            return
        near = difflib.get_close_matches(name, self._by_name, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "smbfuse --help lists them all"
        raise CannotMount(Exit.UNKNOWN_OPTION, f"unknown option {shown(name)}{where}; {hint}")


def shown(text: str) -> str:
    """Return text from outside in a form that a terminal takes unharmed."""
    return text if text.isprintable() else ascii(text)[1:-1]


def field_default(part: str, name: str) -> Any:
    """Return the default of one field of one part."""
    return Draft().get(part, name)


def _field_option(part: str, heading: str, declared: "dataclasses.Field[Any]", hint: Any) -> Option:
    metadata = declared.metadata
    names = metadata["names"] or (declared.name,)
    alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(one for one in alternatives if one is not type(None))
    default = declared.default
    if kind is bool and metadata["parse"] is None:

        def flag(draft: Draft, text: str, on: bool) -> None:
            draft.put(part, declared.name, on)

        shown_default = "" if default is None else ("on" if default else "off")
        return Option(names, metadata["help"], heading, flag, takes=Takes.FLAG, default=shown_default, negatable=True)
    parse, metavar, show = _value_kind(kind, metadata["unit"])
    if metadata["parse"] is not None:
        parse = metadata["parse"]

    def assign(draft: Draft, text: str, on: bool) -> None:
        value = parse(text)
        draft.put(part, declared.name, int(value) if kind is int else value)

    given = "" if default in (None, "") or metadata["unit"] in ("user", "group") else show(default)
    if metadata["parse"] is not None:
        given = ""
    return Option(names, metadata["help"], heading, assign, metavar=metadata["metavar"] or metavar, default=given)


def _value_kind(kind: Any, unit: str) -> tuple[Callable[[str], Any], str, Callable[[Any], str]]:
    """Return how a value of this type and unit is parsed, called in the manual, and shown."""
    by_unit: Mapping[str, tuple[Callable[[str], Any], str, Callable[[Any], str]]] = {
        "bytes": (values.parse_size, "SIZE", values.show_size),
        "seconds": (values.parse_duration, "TIME", values.show_duration),
        "mode": (values.parse_mode, "MODE", lambda mode: f"{mode:04o}"),
        "user": (values.parse_user, "USER", str),
        "group": (values.parse_group, "GROUP", str),
        "port": (values.parse_port, "PORT", str),
        "count": (values.parse_count, "N", str),
    }
    if unit:
        return by_unit[unit]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum_parser(kind), "|".join(one.value for one in kind), lambda value: str(value.value)
    return str, "TEXT", str


def _enum_parser(kind: type[enum.Enum]) -> Callable[[str], enum.Enum]:
    def parse(text: str) -> enum.Enum:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError("must be one of " + ", ".join(one.value for one in kind)) from None

    return parse


def freeze(draft: Draft, target: config.Target) -> Config:
    """Return the configuration that the draft has come to, with what depends on who mounts filled in."""
    root = os.geteuid() == 0
    mount = draft.part("mount")
    allow_other = draft.get("mount", "allow_other") if draft.is_set("mount", "allow_other") else root
    mount["allow_other"] = allow_other
    mount.setdefault("check_permissions", allow_other)
    view = {"uid": os.getuid(), "gid": os.getgid(), **draft.part("view")}
    if draft.umask is not None:
        view.setdefault("file_mode", 0o777 & ~draft.umask)
        view.setdefault("dir_mode", 0o777 & ~draft.umask)
    login = draft.part("login")
    login.setdefault("workstation", draft.get("network", "netbios_name"))
    return Config(
        target=dataclasses.replace(target, **draft.part("target")),
        login=config.Login(**login),
        security=config.Security(**draft.part("security")),
        network=config.Network(**draft.part("network")),
        cache=config.Cache(**draft.part("cache")),
        view=config.View(**view),
        mount=config.Mount(**mount),
        process=config.Process(**draft.part("process")),
    )


if __name__ == "__main__":
    from smbfuse.cli.manual import main  # the manual prints this module's table: imported only when asked to print

    sys.exit(main(sys.argv[1:]))
