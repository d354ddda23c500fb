"""The whole table of options: config.py's fields, and what users paste from their fstab besides.

Here are those that set several fields, or a field under another name; `declined.py` has those that set none.
"""

from collections.abc import Iterator
from typing import Final

from smbfuse.cli import values
from smbfuse.cli.declined import NOT_TO_BE_HAD, WITHOUT_EFFECT
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import PARTS, Apply, Draft, Option, OptionTable, Takes, from_config
from smbfuse.config import CacheMode, ModeChanges, NameMapping, Sec, Secret

# Headings of the manual: those of PARTS, and two of this file's own.
LOGIN: Final = PARTS["login"][1]
SERVER: Final = PARTS["target"][1]
CACHING: Final = PARTS["cache"][1]
FILES: Final = PARTS["view"][1]
MOUNT: Final = PARTS["mount"][1]
NETWORK: Final = PARTS["network"][1]
PROCESS: Final = PARTS["process"][1]
IGNORED: Final = "Taken and without effect"
REFUSED: Final = "Refused"

# Kernel flags of a mount that are passed on as they are.
_KERNEL_FLAGS: Final = {
    "noexec": "passed on to the kernel",
    "noatime": "passed on to the kernel",
    "nodiratime": "passed on to the kernel",
    "sync": "passed on to the kernel: each write waits for the server's disk, as with O_SYNC",
}


def table() -> OptionTable:
    """Return every option that is understood."""
    return OptionTable([*_compound(), *from_config(), *_ignored(), *_refused()])


def _compound() -> Iterator[Option]:
    """Make the options that set several fields, or something that is no field."""
    yield from _login_options()
    yield from _file_options()
    yield Option(
        ("actimeo",),
        "sets acregmax= and acdirmax= at once; 0 asks the server each time",
        CACHING,
        _set_actimeo,
        metavar="TIME",
    )
    yield Option(("soft",), "the default: the same as nohard", NETWORK, _set("network", "hard", False), Takes.FLAG)
    yield Option(("nosoft",), "the same as hard", NETWORK, _set("network", "hard", True), Takes.FLAG)
    yield Option(("noac",), "the same as actimeo=0", CACHING, _disable_attribute_cache, Takes.FLAG)
    yield Option(
        ("strictcache",), "old name of cache=strict", CACHING, _set("cache", "mode", CacheMode.STRICT), Takes.FLAG
    )
    yield Option(
        ("forcedirectio", "directio", "direct", "direct_io"),
        "old names of cache=none, and FUSE's",
        CACHING,
        _set("cache", "mode", CacheMode.NONE),
        Takes.FLAG,
    )
    yield Option(
        ("writeback_cache",),
        "FUSE's name of what cache=loose does: the kernel keeps what is written until it sees fit",
        CACHING,
        _set("cache", "mode", CacheMode.LOOSE),
        Takes.FLAG,
    )
    yield Option(
        ("prefixpath",), "a folder below the share, as in //host/share/folder", SERVER, _set_prefix, metavar="PATH"
    )
    yield Option(
        ("source", "unc", "target", "path"),
        "what to mount, instead of the first argument",
        SERVER,
        _set_source,
        metavar="SOURCE",
    )
    for flag, help_text in _KERNEL_FLAGS.items():
        yield Option((flag,), help_text, MOUNT, _add_kernel_option(flag), Takes.FLAG)
    yield Option(("rw",), "the opposite of ro, and the default", MOUNT, _set("mount", "read_only", False), Takes.FLAG)
    yield Option(
        ("sloppy",), "note unknown options that follow, instead of refusing them", PROCESS, _set_sloppy, Takes.FLAG
    )


def _login_options() -> Iterator[Option]:
    yield Option(
        ("username",),
        r"the user's name, also as DOMAIN\user, user@realm or DOMAIN/user%password; default: $USER",
        LOGIN,
        _set_username,
        metavar="NAME",
    )
    yield Option(
        ("user",),
        "the same as username=; alone, without a value, it is for mount(8)",
        LOGIN,
        _set_user,
        takes=Takes.EITHER,
        metavar="NAME",
    )
    yield Option(
        ("password", "pass"),
        "the password, which everybody sees until smbfuse has read it: prefer credentials= or the prompt",
        LOGIN,
        _set_password("password"),
        metavar="PASSWORD",
    )
    yield Option(
        ("password2", "pass2"),
        "tried once when the first is refused, for the days on which it changes",
        LOGIN,
        _set_password("password2"),
        metavar="PASSWORD",
    )
    yield Option(
        ("credentials", "cred"),
        "a file of lines username=, password=, domain=, as mount.cifs reads it",
        LOGIN,
        _set_credentials,
        metavar="PATH",
    )
    yield Option(
        ("sec",),
        "how to log in; an `i` at the end demands signing as well",
        LOGIN,
        _set_sec,
        metavar="|".join(one.value for one in Sec),
        default=Sec.DEFAULT.value,
    )


def _file_options() -> Iterator[Option]:
    mappings = {
        ("mapposix",): (NameMapping.SFM, "characters that Windows forbids in names are carried as macOS does; default"),
        ("mapchars",): (NameMapping.SFU, "such characters are carried as Services for Unix did"),
        ("nomapchars", "nomapposix"): (NameMapping.NONE, "such characters are not mapped"),
    }
    for names, (mapping, help_text) in mappings.items():
        yield Option(names, help_text, FILES, _set("view", "mapping", mapping), Takes.FLAG)
    yield Option(
        ("umask",),
        "permissions taken from files and folders, where file_mode= and dir_mode= are not given",
        FILES,
        _set_umask,
        metavar="MODE",
    )
    for name, changes, help_text in (
        ("dynperm", ModeChanges.REMEMBER, "the same as modechanges=remember"),
        ("nodynperm", ModeChanges.QUIET, "the same as modechanges=quiet"),
    ):
        yield Option((name,), help_text, FILES, _set("view", "mode_changes", changes), Takes.FLAG)
    yield Option(
        ("iocharset",), "how names are written on this side: always UTF-8", FILES, _check_iocharset, metavar="utf8"
    )


def _ignored() -> Iterator[Option]:
    for name, why in WITHOUT_EFFECT.items():
        yield Option((name,), why, IGNORED, _note(name, why), Takes.EITHER)


def _refused() -> Iterator[Option]:
    for name, why in NOT_TO_BE_HAD.items():
        yield Option((name,), why, REFUSED, _refuse(name, why), Takes.EITHER)


def _set(part: str, name: str, value: object) -> Apply:
    """Return what sets a field to one value."""

    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.put(part, name, value)

    return apply


def _set_username(draft: Draft, text: str, on: bool) -> None:
    draft.username = text


def _set_user(draft: Draft, text: str, on: bool) -> None:
    if text:
        draft.username = text
    else:
        draft.notes.append("option user has no effect: for mount(8)")


def _set_password(name: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.put("login", name, Secret(text))

    return apply


def _set_credentials(draft: Draft, text: str, on: bool) -> None:
    if not text:
        raise ValueError("must be the path of a file")
    draft.credentials = text


def _set_sec(draft: Draft, text: str, on: bool) -> None:
    spelled = text.lower()
    if spelled == "krb5p":
        raise ValueError("must be krb5 together with seal: that is how SMB encrypts")
    signed = spelled.endswith("i")
    try:
        sec = Sec(spelled[:-1] if signed else spelled)
    except ValueError:
        raise ValueError("must be one of " + ", ".join(one.value for one in Sec) + ", with or without i") from None
    draft.put("login", "sec", sec)
    if signed:
        draft.put("security", "sign", True)


def _set_actimeo(draft: Draft, text: str, on: bool) -> None:
    seconds = values.parse_duration(text)
    draft.put("cache", "attributes_s", seconds)
    draft.put("cache", "directories_s", seconds)


def _disable_attribute_cache(draft: Draft, text: str, on: bool) -> None:
    _set_actimeo(draft, "0", on)


def _set_umask(draft: Draft, text: str, on: bool) -> None:
    draft.umask = values.parse_mode(text)


def _check_iocharset(draft: Draft, text: str, on: bool) -> None:
    if text.lower().replace("-", "") not in ("utf8", "default"):
        raise ValueError("must be utf8: names are UTF-8 on this side")


def _set_prefix(draft: Draft, text: str, on: bool) -> None:
    draft.prefix = text


def _set_source(draft: Draft, text: str, on: bool) -> None:
    draft.source = text


def _add_kernel_option(flag: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        present = draft.get("mount", "kernel_options")
        draft.put("mount", "kernel_options", tuple(dict.fromkeys((*present, flag))))

    return apply


def _set_sloppy(draft: Draft, text: str, on: bool) -> None:
    draft.sloppy = True


def _note(name: str, why: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        draft.notes.append(f"option {name} has no effect: {why}")

    return apply


def _refuse(name: str, why: str) -> Apply:
    def apply(draft: Draft, text: str, on: bool) -> None:
        raise CannotMount(Exit.OPTION_REFUSED, f"option {name}: {why}")

    return apply
