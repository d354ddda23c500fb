"""Where user names and passwords come from: credentials files, the environment, systemd, and how names are split.

As mount.cifs reads them, with more patience for what editors leave behind. Every source returns `Credentials`: values,
and notes in plain words for the user about what was odd. A note never quotes a file: what is no credentials file may
hold other secrets. Nothing here asks or prints; the environment is an argument.
"""

import codecs
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from smbfuse.config import Secret
from smbfuse.errors import ConfigError

MOST_BYTES: Final = 64 * 1024  # of a credentials file; more is some other file
MOST_PASSWORD_BYTES: Final = 4096

CREDENTIALS_NAME: Final = "smbfuse.credentials"  # LoadCredential= name of a file in the format of `credentials=`
PASSWORD_NAME: Final = "smbfuse.password"  # LoadCredential= name of a bare password


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one source knows; None is what it does not. An empty `user` is the anonymous user, asked for as such."""

    user: str | None = None
    domain: str | None = None
    password: Secret | None = None
    password2: Secret | None = None
    notes: tuple[str, ...] = ()

    def or_else(self, weaker: "Credentials") -> "Credentials":
        """Return these with what they lack taken from a `weaker` source.

        A weaker source's password is left alone if it is for another user.
        """
        same_user = self.user is None or weaker.user is None or self.user == weaker.user
        return Credentials(
            user=weaker.user if self.user is None else self.user,
            domain=weaker.domain if self.domain is None and same_user else self.domain,
            password=weaker.password if self.password is None and same_user else self.password,
            password2=weaker.password2 if self.password2 is None and same_user else self.password2,
            notes=self.notes + weaker.notes,
        )


class UserName(NamedTuple):
    """The parts of what may stand behind `username=`."""

    user: str
    domain: str | None = None
    password: Secret | None = None


def split_user(text: str) -> UserName:
    r"""Split `DOMAIN\user`, `DOMAIN/user`, each with `%password` behind it if there is one.

    `user@realm` stays whole: it is one name, for NTLM (with no domain beside it) as for Kerberos.
    """
    name, percent, password = text.partition("%")
    separators = [at for at in (name.find("\\"), name.find("/")) if at >= 0]
    domain = name[: min(separators)] if separators else None
    user = name[min(separators) + 1 :] if separators else name
    return UserName(user, domain, Secret(password) if percent else None)


def read_credentials_file(path: str) -> Credentials:
    """Read a file of `username=`, `password=`, `password2=` and `domain=` lines.

    Keys count by their beginning and in any case, as in mount.cifs (`user`, `pass`, `dom`); values are taken as they
    stand, quotes and blanks included. Byte order marks, CR LF, UTF-16 and blanks before a key are tolerated and noted.
    Raises: ConfigError if it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"credentials file {path}: {error.strerror}", errno=error.errno) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"credentials file {path}: too large to be one")
    found = parse_credentials(data, where=path)
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        readers = "everybody" if mode & stat.S_IROTH else "its group"
        note = f"{path}: the password can be read by {readers}; chmod 600 keeps it private"
        found = replace(found, notes=(*found.notes, note))
    return found


def parse_credentials(data: bytes, *, where: str) -> Credentials:
    """Return what the bytes of a credentials file say; `where` names it in the notes."""
    text, notes = _decode(data)
    found = Credentials()
    strange: list[int] = []
    seen: set[str] = set()
    if "\r" in text:
        notes.append("lines end in CR LF; the CR is ignored")
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        key, equals, value = line.partition("=")
        bare = key.strip().lower()
        if not line.strip() or bare.startswith(("#", ";")):
            continue
        if not equals or not bare.startswith(("user", "pass", "dom", "workgroup")):
            strange.append(number)
            continue
        if key != key.strip():
            notes.append(f"line {number}: blanks around the key are ignored")
        if bare in seen:
            notes.append(f"line {number}: {bare} again; the last one counts")
        seen.add(bare)
        notes += _odd_value(value, number)
        if bare.startswith("user"):
            name = split_user(value)
            found = replace(
                found,
                user=name.user,
                domain=found.domain if name.domain is None else name.domain,
                password=found.password if name.password is None else name.password,
            )
        elif bare.startswith("pass"):
            secret = Secret(value)
            found = replace(found, password2=secret) if bare.endswith("2") else replace(found, password=secret)
        else:
            found = replace(found, domain=value)
    if strange:
        lines = ", ".join(map(str, strange))
        notes.append(f"not understood and ignored: line {lines} (known: username=, password=, password2=, domain=)")
    return replace(found, notes=tuple(f"{where}: {note}" for note in notes))


def from_environment(environ: Mapping[str, str]) -> Credentials:
    """Read USER, and PASSWD, PASSWD_FD or PASSWD_FILE, the first of the three that is set; PASSWD2… for a second one.

    Raises: ConfigError if a descriptor or file that is named cannot be read.
    """
    name = split_user(environ["USER"]) if environ.get("USER") else UserName("")
    return Credentials(
        user=name.user or None,
        domain=name.domain,
        password=_environment_password(environ, "PASSWD") or name.password,
        password2=_environment_password(environ, "PASSWD2"),
    )


def from_systemd(environ: Mapping[str, str]) -> Credentials:
    """Read what `LoadCredential=` put into $CREDENTIALS_DIRECTORY, nothing if it put nothing there.

    `smbfuse.credentials` has the format of a credentials file; `smbfuse.password` is a bare password.
    Raises: ConfigError if one of them cannot be read.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return Credentials()
    found = Credentials()
    password = Path(directory, PASSWORD_NAME)
    if password.exists():
        found = Credentials(password=_password_file(str(password)))
    whole = Path(directory, CREDENTIALS_NAME)
    if whole.exists():
        found = found.or_else(read_credentials_file(str(whole)))
    return found


def _decode(data: bytes) -> tuple[str, list[str]]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), ["the file is UTF-16; UTF-8 is usual"]
    if data.startswith(codecs.BOM_UTF8):
        text, notes = _decode(data.removeprefix(codecs.BOM_UTF8))
        return text, ["the file begins with a byte order mark, which is ignored", *notes]
    try:
        return data.decode(), []
    except UnicodeDecodeError:
        return data.decode("latin-1"), ["the file is not UTF-8; it is read as Latin-1"]


def _odd_value(value: str, number: int) -> list[str]:
    notes = []
    if value != value.strip():
        notes.append(f"line {number}: the value begins or ends with a blank, which belongs to it")
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        notes.append(f"line {number}: the quotes around the value belong to it")
    return notes


def _environment_password(environ: Mapping[str, str], name: str) -> Secret | None:
    if name in environ:
        return Secret(environ[name])
    if f"{name}_FD" in environ:
        text = environ[f"{name}_FD"]
        if not text.isdecimal():
            raise ConfigError(f"{name}_FD: {text!r} is no file descriptor")
        try:
            return _first_line(int(text))
        except OSError as error:
            raise ConfigError(f"{name}_FD: descriptor {text}: {error.strerror}", errno=error.errno) from None
    if f"{name}_FILE" in environ:
        return _password_file(environ[f"{name}_FILE"])
    return None


def _password_file(path: str) -> Secret:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _first_line(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"password file {path}: {error.strerror}", errno=error.errno) from None


def _first_line(descriptor: int) -> Secret:
    """Return the bytes up to the first newline or NUL. One at a time: what follows may be meant for somebody else."""
    line = bytearray()
    while len(line) < MOST_PASSWORD_BYTES and (byte := os.read(descriptor, 1)) not in (b"", b"\n", b"\0"):
        line += byte
    return Secret(_decode(bytes(line).removesuffix(b"\r"))[0])
