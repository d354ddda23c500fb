"""The SMB2 engine while writing: data that goes out as it is, replies and breaks in the order in which they arrive."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.engine.smb2 import CREDIT_SIZE
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import ConnectionLost, DecodeError
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.breaks import LeaseBreak, OplockBreak
from smbfuse.wire.smb2.header import RELATED_FILE_ID, UNSOLICITED, Command, Header, HeaderFlags, split_compound
from smbfuse.wire.smb2.info import SetInfoRequest, SetInfoResponse
from smbfuse.wire.smb2.io import FlushRequest, WriteRequest, WriteResponse, encode_write
from smbfuse.wire.smb2.message import HEADER_SIZE
from tests.engine.test_smb2 import (
    CLOSE,
    CLOSED,
    CREATE,
    CREATED,
    ECHO,
    FILE_ID,
    REFUSED,
    SESSION_ID,
    TREE,
    arrive,
    engine_with,
    protected,
    response,
    sent,
    sent_one,
    statuses,
)

WRITTEN = WriteResponse(5, 0, b"").encode()
SET = Request(Command.SET_INFO, SetInfoRequest(1, 20, bytes(8), 0, RELATED_FILE_ID).encode(), payload=8)
FLUSH = Request(Command.FLUSH, FlushRequest(RELATED_FILE_ID).encode())


def write(*pieces: Buffer, file_id: bytes = FILE_ID, offset: int = 0) -> Request:
    length = sum(len(piece) for piece in pieces)
    return Request(Command.WRITE, encode_write(file_id, offset, length), payload=length, data=pieces)


def notice(body: bytes) -> bytes:
    """Return a break: unsolicited, of no session, unsigned.  [MS-SMB2] 2.2.23, 3.3.4.6."""
    header = Header(Command.OPLOCK_BREAK, UNSOLICITED, flags=HeaderFlags.SERVER_TO_REDIR)
    return header.encode() + body


# -- data that goes out as it is


def test_the_pieces_of_a_write_leave_uncopied_and_make_one_request() -> None:
    engine = engine_with(8)
    pieces: list[Buffer] = [b"one", memoryview(bytearray(b"two")), bytearray(b"three")]
    exchange = engine.submit((write(*pieces, offset=7),), tree=TREE)
    (pdu,) = engine.outgoing()
    assert [piece for piece in pdu if any(piece is given for given in pieces)] == pieces
    whole = b"".join(bytes(part) for part in pdu)
    assert nbss.decode_header(whole[:4]) == (nbss.SESSION_MESSAGE, len(whole) - 4)
    ((header, element),) = split_compound(memoryview(whole[4:]))
    assert WriteRequest.decode(element) == WriteRequest(b"onetwothree", 7, FILE_ID, 0, 0, b"", 0)
    arrive(engine, response(header, WRITTEN))
    assert statuses(exchange) == [NtStatus.SUCCESS]


@pytest.mark.parametrize("size, cost", [(0, 1), (1, 1), (CREDIT_SIZE, 1), (CREDIT_SIZE + 1, 2), (5 * CREDIT_SIZE, 5)])
def test_a_write_costs_a_credit_for_each_64_kib(size: int, cost: int) -> None:
    engine = engine_with(16)
    engine.submit((write(bytes(size)),), tree=TREE, bulk=True)
    ((header, _),) = sent_one(engine)
    assert header.credit_charge == cost
    assert engine.window.taken == cost


@pytest.mark.parametrize("sizes", [(5,), (1, 2, 40_000), (8, 8)], ids=str)
def test_data_in_the_middle_of_a_compound_is_padded_and_found(sizes: tuple[int, ...]) -> None:
    engine = engine_with(16)
    pieces = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    engine.submit((CREATE, write(*pieces, file_id=RELATED_FILE_ID), FLUSH, CLOSE), tree=TREE)
    elements = sent_one(engine)
    assert [header.command for header, _ in elements] == [
        Command.CREATE,
        Command.WRITE,
        Command.FLUSH,
        Command.CLOSE,
    ]
    assert WriteRequest.decode(elements[1][1]).data == b"".join(pieces)


@pytest.mark.parametrize("seal", [False, True], ids=["signed", "sealed"])
@given(sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=4))
def test_gathered_data_is_signed_and_sealed_as_what_it_makes_together(seal: bool, sizes: Sequence[int]) -> None:
    engine, server = protected(sign=not seal, seal=seal)
    pieces = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    engine.submit((CREATE, write(*pieces, file_id=RELATED_FILE_ID), CLOSE), tree=TREE)
    (pdu,) = engine.outgoing()
    message = b"".join(bytes(part) for part in pdu)[nbss.HEADER_SIZE :]
    if seal:
        message = server.unseal(message)
    elements = [(header, bytes(element)) for header, element in split_compound(memoryview(message))]
    assert WriteRequest.decode(elements[1][1]).data == b"".join(pieces)
    if not seal:
        protection = engine.protection
        assert protection is not None
        for header, element in elements:
            alone = bytearray(element)
            protection.sign(alone, (), header.message_id)
            assert bytes(alone) == element


def test_what_changes_a_file_goes_on_with_it_when_unrolled() -> None:
    engine = engine_with(16)
    engine.compounds.enabled = False
    exchange = engine.submit((CREATE, SET, write(b"hello", file_id=RELATED_FILE_ID), FLUSH, CLOSE), tree=TREE)
    files = []
    for body in (CREATED, SetInfoResponse().encode(), WRITTEN, b"\x04\0\0\0", CLOSED):
        ((header, element),) = sent_one(engine)
        at = {Command.SET_INFO: 16, Command.WRITE: 16, Command.FLUSH: 8, Command.CLOSE: 8}.get(Command(header.command))
        files.append(element[HEADER_SIZE + at :][:16] if at is not None else None)
        arrive(engine, response(header, body))
    assert files == [None, FILE_ID, FILE_ID, FILE_ID, FILE_ID]
    assert statuses(exchange) == [NtStatus.SUCCESS] * 5


# -- in the order of the wire


def test_the_first_reply_is_told_when_it_arrives_and_before_the_break_behind_it() -> None:
    engine = engine_with(8)
    heard: list[object] = []
    engine.on_break = heard.append
    exchange = engine.submit((CREATE, SET, CLOSE), tree=TREE)
    exchange.on_first_reply = lambda reply: heard.append(reply.status)
    exchange.on_done = lambda: heard.append("done")
    create, change, close = [header for header, _ in sent_one(engine)]
    arrive(engine, response(create, CREATED))  # a server need not answer a compound with one
    arrive(engine, notice(OplockBreak(1, FILE_ID).encode()))
    arrive(engine, response(change, SetInfoResponse().encode()), response(close, CLOSED))
    assert heard == [NtStatus.SUCCESS, OplockBreak(1, FILE_ID), "done"]


def test_a_refused_first_reply_is_told_too_and_an_interim_one_is_not() -> None:
    engine = engine_with(8)
    heard: list[Reply] = []
    exchange = engine.submit((CREATE, CLOSE), tree=TREE)
    exchange.on_first_reply = heard.append
    create, close = [header for header, _ in sent_one(engine)]
    pending = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
    arrive(engine, response(create, REFUSED, status=NtStatus.PENDING, flags=pending, async_id=9))
    assert heard == []
    refusals = [response(header, REFUSED, status=NtStatus.SHARING_VIOLATION) for header in (create, close)]
    arrive(engine, *refusals)
    assert [reply.status for reply in heard] == [NtStatus.SHARING_VIOLATION]


@pytest.mark.parametrize(
    "body",
    [OplockBreak(0, FILE_ID).encode(), LeaseBreak(3, 1, FILE_ID, 7, 1, 0, 0, 0).encode()],
    ids=["oplock", "lease"],
)
@pytest.mark.parametrize("seal", [False, True], ids=["plain", "sealed"])
def test_a_break_comes_unsigned_or_sealed_and_takes_no_credits(body: bytes, seal: bool) -> None:
    engine, server = protected(sign=True, seal=seal)
    heard: list[object] = []
    engine.on_break = heard.append
    before = engine.window.capacity
    message = notice(body)
    engine.arrived(memoryview(bytearray(server.seal(SESSION_ID, message) if seal else message)))
    expected = OplockBreak(0, FILE_ID) if len(body) == 24 else LeaseBreak(3, 1, FILE_ID, 7, 1, 0, 0, 0)
    assert heard == [expected]
    assert engine.window.capacity == before


@pytest.mark.parametrize("body", [b"", b"\x18", b"\x18\0\0", b"\x2c\0" + bytes(41)], ids=len)
def test_a_break_that_cannot_be_read_ends_the_connection(body: bytes) -> None:
    engine = engine_with(4)
    with pytest.raises(DecodeError):
        arrive(engine, notice(body))


def test_the_loss_is_told_after_every_exchange_has_ended() -> None:
    engine = engine_with(4)
    heard: list[str] = []
    engine.on_lost = lambda: heard.append("lost")
    exchange = engine.submit((ECHO,))
    exchange.on_done = lambda: heard.append("done")
    sent(engine)
    engine.lost(ConnectionLost("cut", sent=True))
    assert heard == ["done", "lost"]
