"""The nine packets with which an SMB1 mount over a NetBIOS session begins, seen by a relay that knows neither.

The messages are taken apart here by hand, from the tables of [MS-CIFS] 2.2, so that a mistake in the product's own
decoders cannot hide one in its encoders.
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.relay import Relay
from tests.support.mounts import Mount
from tests.support.record import Pdu
from tests.support.samba import SambaServer

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

NEGOTIATE, SESSION_SETUP_ANDX, TREE_CONNECT_ANDX, OPEN_ANDX, READ_ANDX = 0x72, 0x73, 0x75, 0x2D, 0x2E
COMMANDS_WITH_ANDX = {SESSION_SETUP_ANDX, TREE_CONNECT_ANDX, OPEN_ANDX, READ_ANDX}
NO_MORE = 0xFF
SIZE = 300_000  # more than one transfer


@dataclass(frozen=True, slots=True)
class Block:
    """One command of one message: its own parameters and data, and the header that it shares with its chain."""

    to_server: bool
    command: int
    status: int
    tid: int
    uid: int
    mid: int
    words: bytes
    data: bytes
    message: bytes


def blocks(pdu: Pdu) -> Iterator[Block]:
    """Yield the commands of a message's AndX chain in order.  [MS-CIFS] 2.2.3."""
    message = pdu.data
    assert message[:4] == b"\xffSMB"
    command, status = struct.unpack_from("<BI", message, 4)
    tid, _, uid, mid = struct.unpack_from("<4H", message, 24)
    at = 32
    while command != NO_MORE:
        count = message[at] * 2
        words = message[at + 1 : at + 1 + count]
        (size,) = struct.unpack_from("<H", message, at + 1 + count)
        start = at + 3 + count
        yield Block(pdu.to_server, command, status, tid, uid, mid, words, message[start : start + size], message)
        if command not in COMMANDS_WITH_ANDX or count < 4:
            return
        command, _, at = struct.unpack_from("<BBH", words)


def netbios_name(encoded: bytes) -> str:
    """Undo first-level encoding: two letters a byte, 'A' for 0.  RFC 1001 14.1."""
    assert encoded[0] == 32
    assert encoded[33] == 0
    letters = encoded[1:33]
    name = bytes((letters[at] - 65) << 4 | (letters[at + 1] - 65) for at in range(0, 32, 2))
    return name[:15].decode("ascii").rstrip()


def first(found: Sequence[Block], command: int, *, to_server: bool) -> Block:
    return next(block for block in found if block.command == command and block.to_server == to_server)


@pytest.fixture
def passed(
    samba: SambaServer, share_folder: Path, relay_to: Callable[..., Relay], mount: Callable[..., Mount]
) -> tuple[Sequence[Pdu], bytes]:
    """Mount over a NetBIOS session, read one file, and return what went over the wire and the file's bytes."""
    content = random.Random(9).randbytes(SIZE)
    (share_folder / "Neun.bin").write_bytes(content)
    relay = relay_to(samba.netbios_port)
    options = {"vers": "1.0", "noextsec": True, "nounix": True, "nbsessinit": True, "port": relay.port}
    mounted = mount(samba, options)
    copy = "import sys; print(open(sys.argv[1], 'rb').read().hex())"
    assert bytes.fromhex(mounted.python(copy, mounted.point / share_folder.name / "Neun.bin")) == content
    return relay.pdus(), content


def test_the_session_begins_as_netbios_has_it(passed: tuple[Sequence[Pdu], bytes]) -> None:
    pdus, _ = passed
    request, response, *rest = pdus
    assert (request.kind, request.to_server, request.length) == (0x81, True, 68)
    assert netbios_name(request.data[:34]) == "*SMBSERVER"
    assert netbios_name(request.data[34:])
    assert (response.kind, response.to_server, response.length) == (0x82, False, 0)
    assert {pdu.kind for pdu in rest} == {0x00}


def test_the_commands_come_in_the_order_of_the_protocol(passed: tuple[Sequence[Pdu], bytes]) -> None:
    found = [block for pdu in passed[0] if pdu.kind == 0 for block in blocks(pdu)]
    order = [NEGOTIATE, SESSION_SETUP_ANDX, TREE_CONNECT_ANDX, OPEN_ANDX, READ_ANDX]
    for to_server in (True, False):
        commands = [block.command for block in found if block.to_server == to_server]
        firsts = [commands.index(command) for command in order]
        assert firsts == sorted(firsts)


def test_negotiation_offers_dialects_and_brings_a_challenge(passed: tuple[Sequence[Pdu], bytes]) -> None:
    found = [block for pdu in passed[0] if pdu.kind == 0 for block in blocks(pdu)]
    offer, answer = first(found, NEGOTIATE, to_server=True), first(found, NEGOTIATE, to_server=False)
    dialects = [name for name in offer.data.split(b"\0") if name]
    assert all(name.startswith(b"\x02") for name in dialects)
    (chosen,) = struct.unpack_from("<H", answer.words)
    assert dialects[chosen] == b"\x02NT LM 0.12"
    assert len(answer.words) == 34
    (capabilities,) = struct.unpack_from("<I", answer.words, 19)
    assert not capabilities & 0x80000000  # no extended security
    assert answer.words[33] == 8
    assert any(answer.data[:8])


def test_the_login_gets_a_uid_and_the_tree_a_tid(passed: tuple[Sequence[Pdu], bytes], samba: SambaServer) -> None:
    found = [block for pdu in passed[0] if pdu.kind == 0 for block in blocks(pdu)]
    login = first(found, SESSION_SETUP_ANDX, to_server=True)
    assert samba.user.name.encode("utf-16-le") in login.data
    assert len(login.words) == 26  # WordCount 13: passwords answer the challenge, there is no SPNEGO blob
    granted = first(found, SESSION_SETUP_ANDX, to_server=False)
    assert granted.status == 0
    assert granted.uid != 0
    connect = first(found, TREE_CONNECT_ANDX, to_server=True)
    assert r"\\127.0.0.1\share".encode("utf-16-le").lower() in connect.data.lower()
    connected = first(found, TREE_CONNECT_ANDX, to_server=False)
    assert connected.status == 0
    opened = first(found, OPEN_ANDX, to_server=True)
    assert (opened.uid, opened.tid) == (granted.uid, connected.tid)


def test_the_file_is_opened_by_name_and_read_by_fid(passed: tuple[Sequence[Pdu], bytes], share_folder: Path) -> None:
    pdus, content = passed
    found = [block for pdu in pdus if pdu.kind == 0 for block in blocks(pdu)]
    opening = first(found, OPEN_ANDX, to_server=True)
    assert f"\\{share_folder.name}\\Neun.bin".encode("utf-16-le") in opening.message
    opened = next(
        block for block in found if not block.to_server and block.mid == opening.mid and block.command == OPEN_ANDX
    )
    assert opened.status == 0
    (fid,) = struct.unpack_from("<H", opened.words, 4)
    assert fid not in (0, 0xFFFF)

    reads = [block for block in found if block.to_server and block.command == READ_ANDX]
    alone = [block for block in reads if block.mid != opening.mid]
    assert alone, "a file of several transfers is read by its FID, beyond what came with the open"
    assert {struct.unpack_from("<H", block.words, 4)[0] for block in alone} == {fid}

    got = bytearray(len(content))
    seen = 0
    for request in reads:
        offset = struct.unpack_from("<I", request.words, 6)[0]
        reply = next(b for b in found if not b.to_server and b.command == READ_ANDX and b.mid == request.mid)
        low, at, high = struct.unpack_from("<HHI", reply.words, 10)
        data = reply.message[at : at + low + (high << 16)]
        got[offset : offset + len(data)] = data
        seen += len(data)
    assert bytes(got) == content
    assert seen == len(content), "no byte is asked for twice"
