"""MD4 (RFC 1320), which NTLM is built on and which OpenSSL 3 no longer hands out."""

from struct import Struct
from typing import Final

_BLOCK: Final = Struct("<16I")
_STATE: Final = Struct("<4I")
_INITIAL: Final = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_MASK: Final = 0xFFFFFFFF

# Each round: the order in which it reads the block's words, its four rotations, the constant it adds.
_ROUNDS: Final = (
    (tuple(range(16)), (3, 7, 11, 19), 0),
    (tuple(4 * (i % 4) + i // 4 for i in range(16)), (3, 5, 9, 13), 0x5A827999),
    ((0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15), 0x6ED9EBA1),
)


def md4(data: bytes) -> bytes:
    """Return the 16-byte digest. For passwords, not for bulk: about 20 µs a block of 64 bytes."""
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + (len(data) * 8 & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    state = _INITIAL
    for at in range(0, len(padded), _BLOCK.size):
        state = _compress(state, _BLOCK.unpack_from(padded, at))
    return _STATE.pack(*state)


def _compress(state: tuple[int, int, int, int], words: tuple[int, ...]) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for number, (order, rotations, constant) in enumerate(_ROUNDS):
        for step, index in enumerate(order):
            if number == 0:
                mixed = (b & c) | (~b & d)
            elif number == 1:
                mixed = (b & c) | (b & d) | (c & d)
            else:
                mixed = b ^ c ^ d
            total = (a + mixed + words[index] + constant) & _MASK
            rotation = rotations[step % 4]
            a, b, c, d = d, (total << rotation | total >> (32 - rotation)) & _MASK, b, c
    return (
        (state[0] + a) & _MASK,
        (state[1] + b) & _MASK,
        (state[2] + c) & _MASK,
        (state[3] + d) & _MASK,
    )
