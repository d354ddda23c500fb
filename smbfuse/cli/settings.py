"""From everything that has a say to one frozen `Config`.

defaults < /etc/smbfuse.conf < the user's smbfuse.conf < the mount's options. The login has more sources: the options
themselves, PASSWD and its kin, `credentials=`, systemd's credentials, and $USER for a name that nobody gave.
"""

import configparser
import getpass
import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from smbfuse.cli import compatibility
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import Draft, OptionTable, freeze
from smbfuse.cli.source import Source, join_path, parse_source
from smbfuse.config import Config, Login, Sec, Secret, Target
from smbfuse.errors import ConfigError
from smbfuse.security import secrets
from smbfuse.security.secrets import Credentials

SYSTEM_FILE: Final = Path("/etc/smbfuse.conf")
USER_FILE: Final = Path("smbfuse/smbfuse.conf")  # below $XDG_CONFIG_HOME

_MOST_BYTES: Final = 1 << 20  # of a configuration file
_LOGIN_NAMES: Final = ("domain", "password", "password2")  # whose sources are put in order by `_credentials`


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says, before anything else is read."""

    source: str
    mountpoint: str
    options: Sequence[str]  # the texts behind -o, in their order
    sloppy: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and what was said on the way to it."""

    config: Config
    notes: tuple[str, ...]  # for the debug log
    warnings: tuple[str, ...]  # for the user
    needs_password: bool


def configuration_files(environ: Mapping[str, str]) -> list[Path]:
    """Return where configuration files may be, weakest first."""
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return [SYSTEM_FILE, *([Path(home) / USER_FILE] if os.path.isabs(home) else [])]


def load(request: Request, environ: Mapping[str, str], files: Sequence[Path] | None = None) -> Loaded:
    """Read every source and return the configuration.  Raises: CannotMount, ConfigError (a source cannot be read)."""
    table = compatibility.table()
    # The options are applied twice: what is mounted must be known before the files, whose sections speak of it.
    first = Draft(source=request.source, sloppy=request.sloppy)
    _apply_options(table, first, request)
    source = parse_source(first.source)
    of_files = Draft(sloppy=request.sloppy)
    for path in configuration_files(environ) if files is None else files:
        _apply_file(table, of_files, path, source.target)
    draft = replace(of_files, username=None, settings={**of_files.settings})
    for name in _LOGIN_NAMES:
        draft.settings.pop(("login", name), None)
    if source.target.port is not None:
        draft.put("target", "port", source.target.port)
    _apply_options(table, draft, request)
    login = _credentials(draft, source, _login_of(of_files), environ)
    draft.settings |= {("login", name): value for name, value in _login_fields(draft, login).items()}
    draft.put("mount", "mountpoint", request.mountpoint)
    config = freeze(draft, replace(source.target, path=join_path(source.target.path, draft.prefix)))
    needs_password = config.login.password is None and config.login.sec is not Sec.KRB5
    return Loaded(config, tuple(draft.notes), (*draft.warnings, *login.notes), needs_password)


def with_password(config: Config, password: Secret) -> Config:
    """Return the configuration with the password that was asked for."""
    return replace(config, login=replace(config.login, password=password))


def ask_password(login: Login, host: str) -> Secret:
    """Ask on the terminal.  Raises: CannotMount if there is none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise CannotMount(
            Exit.NO_PASSWORD,
            f"no password for {login.user or 'the login'} on {host}, and no terminal to ask on; "
            "give credentials=FILE, or guest",
        ) from None
    try:
        return Secret(getpass.getpass(f"Password for {login.user} on {host}: "))
    except EOFError:
        raise CannotMount(Exit.NO_PASSWORD, "no password was entered") from None


def _apply_options(table: OptionTable, draft: Draft, request: Request) -> None:
    for text in request.options:
        table.apply(draft, text)


def _apply_file(table: OptionTable, draft: Draft, path: Path, target: Target) -> None:
    """Apply the sections of a configuration file that speak of the target: [default], [host], [host:share]."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}", errno=error.errno) from None
    parser = configparser.RawConfigParser(
        allow_no_value=True, delimiters=("=",), default_section="", strict=False, inline_comment_prefixes=None
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise CannotMount(Exit.BAD_VALUE, f"configuration file {path}: {error.message.splitlines()[0]}") from None
    wanted = ["default", target.host.lower(), f"{target.host}:{target.share}".lower()]
    sections = sorted(
        (section for section in parser.sections() if section.lower() in wanted),
        key=lambda section: wanted.index(section.lower()),
    )
    for section in sections:
        for name, value in parser.items(section):
            table.set(draft, name, value, origin=f"{path} [{section}]")
            if name.startswith("pass") and mode & (stat.S_IRGRP | stat.S_IROTH):
                draft.warnings.append(f"{path}: others can read the password in it; chmod 600 keeps it private")


def _login_of(draft: Draft) -> Credentials:
    """Return what the options of a draft say about the login."""
    name = secrets.split_user(draft.username) if draft.username is not None else None
    found = Credentials(
        user=name.user if name else None,
        domain=draft.get("login", "domain") if draft.is_set("login", "domain") else (name.domain if name else None),
        password=draft.get("login", "password"),
        password2=draft.get("login", "password2"),
    )
    return replace(found, password=name.password) if found.password is None and name else found


def _credentials(draft: Draft, source: Source, from_files: Credentials, environ: Mapping[str, str]) -> Credentials:
    """Put the sources of the login in order, strongest first.

    $USER is everybody's name on this machine, so it counts only if nobody gave one; the passwords of the environment
    are meant for us, and count more than a file.
    """
    url = Credentials(
        user=source.username,
        domain=source.domain,
        password=None if source.password is None else Secret(source.password),
    )
    environment = secrets.from_environment(environ)
    found = _login_of(draft).or_else(url)
    found = found.or_else(replace(environment, user=None, domain=None))
    if draft.credentials:
        try:
            found = found.or_else(secrets.read_credentials_file(draft.credentials))
        except ConfigError as error:
            raise CannotMount(Exit.CREDENTIALS, str(error)) from None
    found = found.or_else(secrets.from_systemd(environ)).or_else(from_files)
    if found.user is None and draft.get("login", "guest"):
        return replace(found, user="guest")
    if found.user is None:
        found = replace(found, user=environment.user or _own_name(), domain=found.domain or environment.domain)
    return found


def _login_fields(draft: Draft, found: Credentials) -> dict[str, object]:
    """Return the fields of `Login` that the sources have come to."""
    if draft.get("login", "sec") is Sec.NONE:
        return {"user": "", "domain": "", "password": Secret("")}
    password = found.password
    if password is None and (draft.get("login", "guest") or found.user == ""):
        password = Secret("")
    return {
        "user": found.user or "",
        "domain": found.domain or "",
        "password": password,
        "password2": found.password2,
    }


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
