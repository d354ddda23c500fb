"""Names on both sides: bytes for the kernel, `str` of UTF-16 origin for the server.

Bytes are WTF-8: UTF-8 that also carries unpaired surrogates, because Windows names may hold them. Characters that
Windows forbids travel in the private use area, as mount.cifs does it:

* `mapposix` (SFM, Services for Macintosh): `" * : < > ? \\ |` as U+F020 to U+F027, a space or a dot at the end of a
  name as U+F028 and U+F029, the control characters 0x01 to 0x1F as U+F001 to U+F01F.
* `mapchars` (SFU, Services for UNIX): `* : < > ? \\ |` as U+F000 plus the character.

The kernel client leaves the backslash alone, its own separator; here both mappings carry it, or the name would be
taken for a path. Both spellings are read, whichever is written: a folder filled by a Mac and one filled by SFU look
the same. Two rules keep that reversible: what is mapped at the end of a name only is decoded there only, and where two
names of one folder would look alike the later one is shown undecoded.
"""

import hashlib
import re
from functools import lru_cache
from typing import Final

from smbfuse.config import NameMapping

NAME_MAX: Final = 255  # bytes in one name of a Linux folder
HASH_DIGITS: Final = 8
_SURELY_HOLDABLE: Final = NAME_MAX // 4  # characters of at most four bytes each

_CONTROLS: Final = {chr(code): chr(0xF000 + code) for code in range(1, 0x20)}
_SFM_RESERVED: Final = dict(zip('"*:<>?\\|', "\uf020\uf021\uf022\uf023\uf024\uf025\uf026\uf027", strict=True))
_SFU_RESERVED: Final = {character: chr(0xF000 + ord(character)) for character in "*:<>?\\|"}
_TRAILING: Final = {" ": "\uf028", ".": "\uf029"}  # SFM only
# What no folder can hold, shown as U+F000 plus the character. Such a name is seen but not opened: no path can hold it.
_UNHOLDABLE: Final = str.maketrans({"/": "\uf02f", "\0": "\uf000"})

_TO_SFM: Final = str.maketrans(_SFM_RESERVED | _CONTROLS)
_TO_SFU: Final = str.maketrans(_SFU_RESERVED)
_FROM_EITHER: Final = str.maketrans(
    {carrier: character for table in (_SFM_RESERVED, _SFU_RESERVED, _CONTROLS) for character, carrier in table.items()}
)
_FROM_TRAILING: Final = {carrier: character for character, carrier in _TRAILING.items()}

_UNUSUAL: Final = r'\x00-\x1f"*/:<>?\\|\ud800-\udfff\uf000-\uf0ff'
_SEPARATORS_POSIX: Final = frozenset("/\0")
_SEPARATORS: Final = _SEPARATORS_POSIX | {"\\"}
_PLAIN: Final = re.compile(f"[^{_UNUSUAL}]*[^{_UNUSUAL} .]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SPLIT_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SHORTENED: Final = re.compile(rf"~[0-9a-f]{{{HASH_DIGITS}}}(\.[^.]{{1,8}})?$")


def is_plain(name: str) -> bool:
    """Tell whether a server's name is shown as it is, whatever the mapping (its length apart)."""
    return _PLAIN.fullmatch(name) is not None


def fold(name: str) -> str:
    """Return the key under which a server that ignores case finds `name`.

    One character at a time and only where upper and lower case answer each other, as the servers' own tables do: 'ß' is
    not 'SS', a dotless 'ı' is not an 'I'. This may fold too little (two keys for one file, which node identity mends),
    and must not fold too much (one key for two files).
    """
    if name.isascii():
        return name.lower()
    return "".join(map(_fold_character, name))


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    lower = character.lower()
    # Servers fold UTF-16 units: what lies beyond U+FFFF stays as it is.
    if len(lower) == 1 and character <= "\uffff" and lower.upper() == character:
        return lower
    return character


class Names:
    """How one share spells names."""

    def __init__(self, mapping: NameMapping, *, case_sensitive: bool, posix: bool) -> None:
        self._mapping = mapping
        self._posix = posix  # the server itself takes every character but '/'
        self.key = str if case_sensitive else fold

    def spellings(self, name: bytes) -> tuple[str, ...]:
        """Return what `name` may be called on the server, likeliest first; empty if the server can have no such name.

        The kernel never hands over a '/' or NUL. Bytes that are no WTF-8 name nothing.
        """
        text = from_wtf8(name)
        if not text:
            return ()
        if is_plain(text):
            return (text,)
        if self._mapping is NameMapping.NONE:
            # A backslash would be taken for a separator: there is no such name.
            return () if "\\" in text and not self._posix else (text,)
        mapped = [self._to_sfm(text), text.translate(_TO_SFU)]
        if self._mapping is NameMapping.SFU:
            mapped.reverse()
        if self._posix:
            mapped.insert(0, text)
        first, *others = mapped
        return tuple(dict.fromkeys([first, *(spelling for spelling in others if not _forbidden(spelling))]))

    def to_make(self, name: bytes) -> str | None:
        """Return what a file that is made as `name` is called on the server; None: the server can hold no such name.

        Never one that the server would take for something else: it would be another file that is opened, or emptied.
        """
        for spelling in self.spellings(name):
            if is_plain(spelling) or not _forbidden(spelling) or self._posix:
                return spelling
        return None

    def shown(self, name: str) -> bytes:
        """Return the name under which a folder shows the server's `name`; b'' if it cannot be shown at all.

        Always something that the kernel takes: 1 to 255 bytes without '/' and NUL, neither '.' nor '..'.
        """
        text = name
        if is_plain(name):
            if len(name) <= _SURELY_HOLDABLE:
                return name.encode()
        else:
            if _SURROGATE.search(name):
                text = _joined(name)
            if self._mapping is not NameMapping.NONE:
                decoded = text.translate(_FROM_EITHER)
                if decoded and decoded[-1] in _FROM_TRAILING:
                    decoded = decoded[:-1] + _FROM_TRAILING[decoded[-1]]
                if decoded not in (".", ".."):
                    text = decoded
        return _holdable(text)

    def undecoded(self, name: str) -> bytes:
        """Return another name for the server's `name`, where `shown` is taken: as the server has it."""
        return _holdable(_joined(name))

    def reachable(self, name: str) -> bool:
        """Tell whether the server can be asked for `name`: a component of a path may hold no separator and no NUL."""
        separators = _SEPARATORS_POSIX if self._posix else _SEPARATORS
        return separators.isdisjoint(name) and name not in ("", ".", "..")

    def _to_sfm(self, text: str) -> str:
        mapped = text.translate(_TO_SFM)
        # '.' and '..' are folders, not names that end with a dot.
        if text not in (".", "..") and text[-1] in _TRAILING:
            mapped = mapped[:-1] + _TRAILING[text[-1]]
        return mapped


def needs_listing(name: bytes) -> bool:
    """Tell whether only its folder's listing can say what `name` is called on the server.

    So it is for a shortened name, and for one that ends with a dot or a space: asking for it unmapped may find
    another file, as Windows drops the end.
    """
    text = from_wtf8(name)
    return text is not None and (text[-1:] in _TRAILING or _SHORTENED.search(text) is not None)


def from_wtf8(name: bytes) -> str | None:
    """Decode a name from the kernel; None if no server's name can look like that."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        pass
    try:
        text = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    # Two halves of a pair are the same UTF-16 as the character itself, whose only spelling is four bytes.
    return None if _SPLIT_PAIR.search(text) else text


def to_wtf8(text: str) -> bytes:
    """Encode any text from a server, unpaired surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def _joined(text: str) -> str:
    """Make one character of each surrogate pair."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _forbidden(spelling: str) -> bool:
    """Tell whether the server may take a guessed spelling for something else: a stream, a wildcard, a shorter name."""
    return spelling[-1] in _TRAILING or any(letter in _SFM_RESERVED or letter in _CONTROLS for letter in spelling)


def _holdable(text: str) -> bytes:
    text = text.translate(_UNHOLDABLE)
    if text in ("", ".", ".."):
        return b""
    name = to_wtf8(text)
    return name if len(name) <= NAME_MAX else _shortened(text, name)


def _shortened(text: str, name: bytes) -> bytes:
    """Cut a name that is too long, keeping its suffix and telling it from its like by a hash of the whole."""
    stem, dot, suffix = text.rpartition(".")
    tail = f".{suffix}" if dot and stem and 1 <= len(suffix) <= 8 else ""
    mark = f"~{hashlib.blake2b(name, digest_size=HASH_DIGITS // 2).hexdigest()}{tail}".encode("utf-8", "surrogatepass")
    start = name[: NAME_MAX - len(mark)]
    while start and start[-1] & 0xC0 == 0x80:  # never in the middle of a character
        start = start[:-1]
    return start[:-1] + mark if start and start[-1] >= 0xC0 else start + mark
