"""Messages out of a capture file: one TCP connection, loopback, nothing lost, as the own-* captures are."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "data" / "pcaps"
SMB_PORTS: Final = {139, 445}

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_PACKET_HEADER: Final = struct.Struct("<IIII")
_LITTLE_ENDIAN_MICROSECONDS: Final = 0xA1B2C3D4
_ETHERNET: Final = 1
_ETHERNET_SIZE: Final = 14


class Captured(NamedTuple):
    """One message, without its session header."""

    from_server: bool
    message: bytes


def messages(name: str) -> Iterator[Captured]:
    """Yield the SMB messages of `tests/data/pcaps/<name>.pcap`, in the order in which they were complete."""
    pending = {False: bytearray(), True: bytearray()}
    for from_server, payload in _segments((FOLDER / f"{name}.pcap").read_bytes()):
        stream = pending[from_server]
        stream += payload
        while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[1:4]):
            end = 4 + int.from_bytes(stream[1:4])
            if stream[0] == 0:
                yield Captured(from_server, bytes(stream[4:end]))
            del stream[:end]


def _segments(data: bytes) -> Iterator[tuple[bool, bytes]]:
    magic, *_, link = _FILE_HEADER.unpack_from(data)
    assert (magic, link) == (_LITTLE_ENDIAN_MICROSECONDS, _ETHERNET)
    at = _FILE_HEADER.size
    while at < len(data):
        _, _, size, _ = _PACKET_HEADER.unpack_from(data, at)
        packet = data[at + _PACKET_HEADER.size : at + _PACKET_HEADER.size + size]
        at += _PACKET_HEADER.size + size
        ip = packet[_ETHERNET_SIZE:]
        tcp = ip[(ip[0] & 0x0F) * 4 : int.from_bytes(ip[2:4])]
        yield int.from_bytes(tcp[0:2]) in SMB_PORTS, tcp[(tcp[12] >> 4) * 4 :]
