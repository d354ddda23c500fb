"""Strange bytes from ordinary ones: what decoders are given to break on. The same seed gives the same bytes."""

import random
from collections.abc import Callable, Sequence
from typing import Final

LARGEST: Final = 4096  # bytes of one input; seeds are smaller

_BYTES: Final = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS: Final = (0, 1, 2, 7, 8, 0x40, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_LARGE: Final = (
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF8,
    0xFFFFFFFF,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
_ROUNDS: Final = (1, 1, 1, 2, 2, 3, 5, 8)
_KEEP_HEAD: Final = 0.9


class Mutator:
    """Makes inputs out of seeds. The first `head` bytes are changed in one input of ten only."""

    def __init__(self, generator: random.Random, seeds: Sequence[bytes], *, head: int = 0) -> None:
        self._random = generator
        self._seeds = seeds
        self._head = head
        self._operations: Sequence[Callable[[bytearray, int], None]] = (
            self._flip_bit,
            self._set_byte,
            self._set_number,
            self._set_number,
            self._tweak_length,
            self._tweak_length,
            self._truncate,
            self._extend,
            self._splice,
            self._remove,
            self._repeat,
        )

    def next(self) -> bytes:
        """Return the next input, `LARGEST` bytes at most."""
        data = bytearray(self._random.choice(self._seeds))
        keep = self._head if self._random.random() < _KEEP_HEAD else 0
        for _ in range(self._random.choice(_ROUNDS)):
            if len(data) <= keep:
                break
            self._random.choice(self._operations)(data, keep)
        return bytes(data[:LARGEST])

    def _at(self, data: bytearray, keep: int) -> int:
        """Return a place to change; half of the time one of the first, where the lengths are."""
        span = len(data) - keep
        if self._random.random() < 0.5:
            span = min(span, 48)
        return keep + int(self._random.random() * span)

    def _flip_bit(self, data: bytearray, keep: int) -> None:
        data[self._at(data, keep)] ^= 1 << self._random.getrandbits(3)

    def _set_byte(self, data: bytearray, keep: int) -> None:
        data[self._at(data, keep)] = self._random.choice(_BYTES)

    def _set_number(self, data: bytearray, keep: int) -> None:
        width = self._random.choice((2, 2, 4, 4, 8))
        at = self._at(data, keep) & ~1
        value = self._random.choice((*_NUMBERS, *_LARGE, len(data), len(data) - at, len(data) + 1, at))
        part = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        data[at : at + width] = part[: len(data) - at]

    def _tweak_length(self, data: bytearray, keep: int) -> None:
        """Change a number that could be a length or an offset by little."""
        for _ in range(4):
            at = self._at(data, keep) & ~1
            value = int.from_bytes(data[at : at + 2], "little")
            if 0 < value <= len(data) + 16:
                value = max(0, value + self._random.choice((-8, -4, -2, -1, 1, 2, 4, 8)))
                data[at : at + 2] = value.to_bytes(2, "little")[: len(data) - at]
                return

    def _truncate(self, data: bytearray, keep: int) -> None:
        del data[keep + int(self._random.random() * (len(data) - keep)) :]

    def _extend(self, data: bytearray, keep: int) -> None:
        count = self._random.choice((1, 2, 3, 7, 8, 16, 64))
        data += bytes(count) if self._random.random() < 0.5 else self._random.randbytes(count)

    def _splice(self, data: bytearray, keep: int) -> None:
        """Go on with the end of another seed."""
        other = self._random.choice(self._seeds)
        at = self._at(data, keep)
        data[at:] = other[min(at, len(other)) if self._random.random() < 0.5 else len(other) // 2 :]

    def _remove(self, data: bytearray, keep: int) -> None:
        at = self._at(data, keep)
        del data[at : at + self._random.choice((1, 2, 4, 8, 16))]

    def _repeat(self, data: bytearray, keep: int) -> None:
        at = self._at(data, keep)
        size = self._random.choice((1, 2, 4, 8, 32, 64))
        data[at:at] = data[at : at + size]
