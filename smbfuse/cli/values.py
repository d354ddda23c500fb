"""Text behind '=' to values, and values back to text for the docs. Raises ValueError with half a sentence."""

import grp
import math
import pwd
import re
from typing import Final

_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S: Final = float(2**31)


def parse_size(text: str) -> int:
    """Return bytes: `4096`, `64k`, `8M`, `1.5GiB` (powers of 1024)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text, re.IGNORECASE)
    if match is None:
        raise ValueError("must be a size such as 65536, 64k, 8M or 1GiB")
    size = int(float(match[1]) * _SIZE_UNITS[match[2].lower()]) if "." in match[1] else int(match[1])
    if "." not in match[1]:
        size *= _SIZE_UNITS[match[2].lower()]
    if size >= 1 << 50:
        raise ValueError("is too large")
    return size


def parse_duration(text: str) -> float:
    """Return seconds: `30`, `0.5`, `500ms`, `2min`, `1h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text, re.IGNORECASE)
    if match is None or match[2].lower() not in _DURATION_UNITS:
        raise ValueError("must be a time such as 30, 0.5, 500ms, 2min or 1h")
    # mount.cifs takes any 32-bit number of seconds; more than that is for ever as well.
    return min(float(match[1]) * _DURATION_UNITS[match[2].lower()], _LONGEST_S)


def parse_mode(text: str) -> int:
    """Return permission bits written in octal: `755`, `0644`, `0o700`."""
    digits = text.removeprefix("0o")
    if not re.fullmatch(r"[0-7]{1,5}", digits) or int(digits, 8) > 0o7777:
        raise ValueError("must be octal permissions such as 0755")
    return int(digits, 8)


def parse_count(text: str) -> int:
    """Return a whole number above 0."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) == 0:
        raise ValueError("must be a whole number above 0")
    return int(text)


def parse_port(text: str) -> int:
    """Return a TCP port."""
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("must be a port, 1 to 65535")
    return int(text)


def parse_user(text: str) -> int:
    """Return a uid from a number or a name of this machine."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError("must be a user of this machine, or a number") from None


def parse_group(text: str) -> int:
    """Return a gid from a number or a name of this machine."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError("must be a group of this machine, or a number") from None


def show_size(size: int) -> str:
    """Return a size as a user would write it."""
    for unit, scale in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def show_duration(seconds: float) -> str:
    """Return seconds as a user would write them."""
    return f"{seconds:g}" if math.isfinite(seconds) else "for ever"


def _checked_id(number: int) -> int:
    if number >= 2**32 - 1:  # the last one means "no change" to chown(2)
        raise ValueError("must be below 4294967295")
    return number
