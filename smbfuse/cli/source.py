"""What the user wants mounted: `//host/share/folder`, `\\\\host\\share`, `host:share`, `smb://user@host:port/share`."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.options import shown
from smbfuse.config import Target

_FORMS: Final = "write //HOST/SHARE, //HOST/SHARE/FOLDER, //HOST, or smb://HOST/SHARE"


@dataclass(frozen=True, slots=True)
class Source:
    """What a source says; a login only in the form of a URL."""

    target: Target
    username: str | None = None
    domain: str | None = None
    password: str | None = None


def parse_source(text: str) -> Source:
    """Take a source apart.  Raises CannotMount with the forms that are understood."""
    scheme, colon, rest = text.partition("://")
    if colon and scheme.lower() in ("smb", "cifs"):
        return _parse_url(rest, text)
    if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise CannotMount(Exit.USAGE, f"smbfuse mounts no {shown(scheme)}:// addresses; {_FORMS}")
    if text.startswith(("//", "\\\\")):
        host, _, path = text[2:].replace("\\", "/").partition("/")
        return Source(_target(_host(host, text), None, path, text))
    match = re.fullmatch(r"(\[[^\]]+\]|[^/\\:]+):(.*)", text, re.DOTALL)
    if match is not None:
        return Source(_target(_host(match[1], text), None, match[2].replace("\\", "/"), text))
    raise CannotMount(Exit.USAGE, f"{shown(text)} is no share; {_FORMS}")


def join_path(*parts: str) -> str:
    """Join folders below a share into one path; empty parts vanish, '..' is not understood by servers."""
    components = [one for part in parts for one in part.replace("\\", "/").split("/") if one not in ("", ".")]
    if ".." in components:
        raise CannotMount(Exit.USAGE, "a folder below the share cannot be written with '..'")
    return "/".join(components)


def _parse_url(rest: str, whole: str) -> Source:
    """smb://[[domain;]user[:password]@]host[:port][/share[/path]], percent-encoded as RFC 3986 has it."""
    authority, _, path = rest.partition("/")
    login, at, host_port = authority.rpartition("@")
    domain = user = password = None
    if at:
        names, colon, secret = login.partition(":")
        password = _decode(secret) if colon else None
        before, semicolon, after = names.partition(";")
        domain, user = (_decode(before), _decode(after)) if semicolon else (None, _decode(names))
    match = re.fullmatch(r"(\[[^\]]+\]|[^:]*)(?::(\d{0,5}))?", host_port)
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        raise CannotMount(Exit.USAGE, "a URL's host must be a name or [an IPv6 address], with a port up to 65535")
    path = path.partition("?")[0]
    target = _target(_host(_decode(match[1]), "the URL"), int(match[2]) if match[2] else None, _decode(path), "the URL")
    return Source(target, user, domain, password)


def _host(text: str, whole: str) -> str:
    """Return a host without the brackets of an IPv6 literal."""
    bracketed = re.fullmatch(r"\[(.*)\]", text)
    host = bracketed[1] if bracketed else text
    if not host or not host.isprintable() or any(one in host for one in " /\\@[]"):
        raise CannotMount(Exit.USAGE, f"{shown(whole)} names no host; {_FORMS}")
    return host


def _target(host: str, port: int | None, path: str, whole: str) -> Target:
    components = join_path(path)
    if "\0" in components:
        raise CannotMount(Exit.USAGE, f"{shown(whole)} has a zero byte in it")
    share, _, below = components.partition("/")
    return Target(host=host, share=share, path=below, port=port)


def _decode(text: str) -> str:
    # A percent-encoded byte that is no UTF-8 stays visible as what it is, and finds no share.
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
