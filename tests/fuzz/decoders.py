"""Every public decoder of the wire room, found by looking: a new one is fuzzed as soon as it exists.

A decoder is a public function or method that takes bytes from the server. What it takes besides follows from its
signature; the few that want more (a level, a count) say it in `WITH_MORE`. A new decoder needs no entry here, only
seeds in `corpus/`: a test fails while it has none.
"""

import functools
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import smbfuse.wire
from smbfuse.errors import DecodeError
from smbfuse.wire.dirlist import decode_page
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.record import Buffer, Record
from smbfuse.wire.smb1.header import HEADER_SIZE as SMB1_HEADER_SIZE
from smbfuse.wire.smb1.listing import FindLevel, decode_oem_page, decode_standard_page, decode_unix_page
from smbfuse.wire.smb1.message import OEM, UNICODE, Block, Strings, decode_chain, decode_message
from smbfuse.wire.smb1.write import decode_written
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.message import HEADER_SIZE as SMB2_HEADER_SIZE
from smbfuse.wire.smb2.message import Message

CORPUS: Final = Path(__file__).parent / "corpus"

Decode = Callable[[bytes], object]

_ROOM: Final = smbfuse.wire.__name__ + "."
_BUFFERS: Final[tuple[object, ...]] = (Buffer, memoryview)


@dataclass(frozen=True, slots=True)
class Target:
    """Something to be given strange bytes.

    `call` takes them and must end with a value or one of `errors`. The first `head` bytes of a seed are mostly left
    alone, because a wrong header ends everything early.
    """

    name: str
    call: Decode
    seeds: Sequence[bytes]
    head: int = 0
    errors: tuple[type[Exception], ...] = (DecodeError,)
    share: float = 1.0  # of the inputs asked for: less for what is slow and not our own


class Caller(NamedTuple):
    """How a decoder is called with bytes, and how many of them are a header that another decoder reads."""

    call: Decode
    head: int = 0


def targets() -> list[Target]:
    """Return one target for each decoder, by name."""
    seeds = corpus()
    return [
        Target(name, caller.call, seeds.get(name, ()), head=caller.head)
        for name, caller in sorted({**plain_decoders(), **WITH_MORE}.items())
    ]


def corpus() -> dict[str, list[bytes]]:
    """Return the seeds of every decoder: lines of `corpus/*.txt` with a decoder's name, an origin, and hex digits."""
    seeds: dict[str, list[bytes]] = {}
    for path in sorted(CORPUS.glob("*.txt")):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _origin, *digits = line.split()
            seeds.setdefault(name, []).append(bytes.fromhex("".join(digits)))
    return seeds


def plain_decoders() -> dict[str, Caller]:
    """Return the decoders whose signature says how to call them.  Raises TypeError for one that it does not."""
    special = {name.partition("[")[0] for name in WITH_MORE} | NO_DECODERS
    return {name: _caller(name, function, owner) for name, function, owner in _candidates() if name not in special}


def _candidates() -> Iterator[tuple[str, Callable[..., object], type | None]]:
    """Yield name, callable and class of whatever public takes bytes and is no encoder."""
    for module in pkgutil.walk_packages(smbfuse.wire.__path__, _ROOM):
        loaded = importlib.import_module(module.name)
        for name, item in vars(loaded).items():
            if name.startswith("_") or getattr(item, "__module__", None) != module.name:
                continue
            full = f"{module.name.removeprefix(_ROOM)}.{name}"
            if inspect.isclass(item):
                for method, function in _methods(item):
                    yield f"{full}.{method}", function, item
            elif inspect.isfunction(item) and _takes_bytes(name, item):
                yield full, item, None


def _methods(owner: type) -> Iterator[tuple[str, Callable[..., object]]]:
    if issubclass(owner, Record) and not hasattr(owner, "STRUCT"):
        return  # a base without fields of its own
    for name in dir(owner):
        if name.startswith("_"):
            continue
        attribute = inspect.getattr_static(owner, name)
        function = attribute.__func__ if isinstance(attribute, classmethod) else attribute
        if not isinstance(function, types.FunctionType) or not _takes_bytes(name, function):
            continue
        if name == "decode" and hasattr(owner, "decode_block"):
            continue  # what an SMB1 message has in its words; `decode_block` goes through it
        if isinstance(attribute, classmethod):
            yield name, getattr(owner, name)
        elif owner is Strings:
            for strings, label in ((UNICODE, "UNICODE"), (OEM, "OEM")):
                yield f"{name}[{label}]", getattr(strings, name)


def _takes_bytes(name: str, function: types.FunctionType) -> bool:
    if name.startswith("encode"):
        return False
    hints = typing.get_type_hints(function)
    return any(hint in _BUFFERS or hint is Block for parameter, hint in hints.items() if parameter != "return")


def _caller(name: str, function: Callable[..., object], owner: type | None) -> Caller:
    plain = function.__func__ if isinstance(function, types.MethodType) else function
    hints = typing.get_type_hints(plain)
    hints.pop("return", None)
    element = "element" in hints or (owner is not None and issubclass(owner, Message))
    head = SMB2_HEADER_SIZE if element and not name.startswith("smb2.header.") else 0
    match list(hints.values()):
        case [kind] if kind is Block:
            return Caller(lambda data: [function(block) for block, _ in _blocks(data)], SMB1_HEADER_SIZE)
        case [kind, strings] if kind is Block and strings is Strings:
            return Caller(lambda data: [function(*parts) for parts in _blocks(data)], SMB1_HEADER_SIZE)
        case [kind, strings] if kind in _BUFFERS and strings is Strings:
            return Caller(lambda data: (function(data, UNICODE), function(data, OEM)))
        case [kind] if kind is memoryview:
            return Caller(lambda data: _exhausted(function(memoryview(bytearray(data)))), head)
        case [kind, *rest] if kind in _BUFFERS and rest in ([], [int]):
            return Caller(function, head)
    raise TypeError(f"{name}{tuple(hints)}: say in WITH_MORE how it is to be called")


def _exhausted(value: object) -> object:
    return list(value) if isinstance(value, Iterator) else value


def _blocks(pdu: bytes) -> Iterator[tuple[Block, Strings]]:
    header, blocks = decode_message(memoryview(bytearray(pdu)))
    strings = UNICODE if header.flags2 & 0x8000 else OEM
    return ((block, strings) for block in blocks)


# Public functions of the room that take bytes and decode nothing by themselves.
NO_DECODERS: Final = frozenset(
    {
        "record.view",  # what every decoder cuts its parts with
    }
)

# Decoders that want to know more than the bytes.
WITH_MORE: Final[Mapping[str, Caller]] = {
    **{
        f"dirlist.decode_page[{kind.name}]": Caller(functools.partial(decode_page, kind))
        for kind in (
            FileInformation.DIRECTORY,
            FileInformation.FULL_DIRECTORY,
            FileInformation.BOTH_DIRECTORY,
            FileInformation.ID_BOTH_DIRECTORY,
            FileInformation.ID_FULL_DIRECTORY,
        )
    },
    **{
        f"smb1.listing.decode_standard_page[{label}]": Caller(
            # The server says elsewhere how many entries there are: here the first byte does.
            functools.partial(lambda strings, data: decode_standard_page(data[1:], sum(data[:1]), strings), strings)
        )
        for strings, label in ((UNICODE, "UNICODE"), (OEM, "OEM"))
    },
    **{
        f"smb1.listing.decode_unix_page[{level.name}]": Caller(
            functools.partial(lambda level, data: decode_unix_page(level, data, UNICODE), level)
        )
        for level in (FindLevel.UNIX, FindLevel.UNIX_INFO2)
    },
    **{
        f"smb1.listing.decode_oem_page[{level.name}]": Caller(
            functools.partial(lambda level, data: decode_oem_page(level, data, OEM), level)
        )
        for level in (FindLevel.FULL_DIRECTORY_INFO, FindLevel.ID_FULL_DIRECTORY_INFO)
    },
    "smb1.write.decode_written": Caller(
        lambda data: [decode_written(block, 0x1FFFF) for block, _ in _blocks(data)], SMB1_HEADER_SIZE
    ),
    "smb2.errors.ErrorResponse.symlink": Caller(lambda data: ErrorResponse.decode(data).symlink, SMB2_HEADER_SIZE),
    "smb1.message.decode_chain": Caller(
        lambda data: decode_chain(memoryview(data), data[4] if len(data) > 4 else 0), SMB1_HEADER_SIZE
    ),
}
