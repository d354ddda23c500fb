"""The SMB1 engine where files are written and kept: data from where it lies, oplock breaks, transactions in pieces."""

import pytest

from smbfuse.engine.protect import Smb1Protection
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.errors import ConnectionLost, ProtocolError
from smbfuse.status import NtStatus
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1.control import BREAK_TO_LEVEL_II, BREAK_TO_NONE, OPLOCK_RELEASE, LockingRequest
from smbfuse.wire.smb1.files import EmptyResponse
from smbfuse.wire.smb1.header import UNSOLICITED_MID, Command, Header, decode_header
from smbfuse.wire.smb1.message import UNICODE, decode_message, encode_message
from smbfuse.wire.smb1.nt_transact import NtFunction
from smbfuse.wire.smb1.transaction import NtTransactRequest, NtTransactSecondary, TransactionPart
from smbfuse.wire.smb1.write import Write, WriteRequest, WriteResponse
from tests.engine.test_smb1 import CLOSE, KEY, TREE, Nothing, Signer, answer, engine, exchange_of, sent

ACKNOWLEDGMENT = LockingRequest(9, OPLOCK_RELEASE, BREAK_TO_NONE, 0, 0, 0, b"")


class Holder:
    """Writes down what it is told of oplocks."""

    def __init__(self) -> None:
        self.breaks: list[tuple[int, int]] = []
        self.losses = 0

    def broken(self, fid: int, level: int) -> None:
        self.breaks.append((fid, level))

    def lost(self) -> None:
        self.losses += 1


def notice(fid: int, level: int) -> memoryview:
    header = Header(Command.LOCKING_ANDX, 0, 0, 0, 0xFFFF, bytes(8), 7, 0xFFFF, 0, UNSOLICITED_MID)
    broken = LockingRequest(fid, OPLOCK_RELEASE, level, 0, 0, 0, b"")
    return memoryview(bytearray(encode_message(header, (broken,), UNICODE)))


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_is_sent_from_where_it_lies() -> None:
    talker = engine()
    pieces: list[Buffer] = [b"some ", memoryview(bytearray(b"and more "))]
    talker.submit((Write(3, 1 << 33, 14),), tree=TREE, payload=pieces, moves=14)
    ((head, _, *data),) = talker.outgoing()
    assert [piece is own for piece, own in zip(data, pieces, strict=True)] == [True, True]
    assert int.from_bytes(head, "big") == 64 + 14


def test_data_in_pieces_is_one_message() -> None:
    talker = engine()
    exchange = talker.submit((Write(3, 5, 9),), tree=TREE, payload=(b"some", b"", b" data"), moves=9)
    (message,) = sent(talker)
    header, (block,) = decode_message(memoryview(message))
    assert header.tid == TREE.tid
    assert WriteRequest.decode_block(block, UNICODE) == WriteRequest(3, 5, 0, 0, 0, 0, b"\0", b"some data")
    talker.arrived(answer(message, WriteResponse(9, 0)))
    assert exchange.done


def test_data_is_signed_with_its_message() -> None:
    talker, server = engine(), Signer()
    talker.protect(Smb1Protection(KEY))
    talker.submit((Write(3, 0, 8),), tree=TREE, payload=(b"some", b"data"))
    (message,) = sent(talker)
    server.check(message, 2)


def test_data_is_let_go_of_when_it_has_left() -> None:
    talker = engine()
    exchange = talker.submit((Write(3, 0, 4),), tree=TREE, payload=(b"data",))
    assert exchange.payload
    sent(talker)
    assert not exchange.payload


def test_several_writes_are_on_their_way_at_once_and_leave_room_for_others() -> None:
    talker = engine(max_mpx_count=10)
    for number in range(20):
        talker.submit((Write(3, number, 1),), tree=TREE, payload=(b"x",), moves=1)
    writes = len(sent(talker))
    assert 1 < writes < 10
    talker.submit((CLOSE,), tree=TREE)
    assert len(sent(talker)) == 1


# --- oplocks ----------------------------------------------------------------------------------------------------------


def test_a_break_is_told_with_its_file_and_level() -> None:
    talker, holder = engine(), Holder()
    talker.oplocks = holder
    talker.arrived(notice(9, BREAK_TO_LEVEL_II))
    talker.arrived(notice(0, BREAK_TO_NONE))
    assert holder.breaks == [(9, BREAK_TO_LEVEL_II), (0, BREAK_TO_NONE)]
    assert not sent(talker)


def test_a_break_is_not_signed_and_moves_no_numbers() -> None:
    talker, server, holder = engine(), Signer(), Holder()
    talker.protect(Smb1Protection(KEY))
    talker.oplocks = holder
    talker.arrived(notice(9, BREAK_TO_NONE))
    assert holder.breaks
    exchange, message = exchange_of(talker, CLOSE)
    server.check(message, 2)
    talker.arrived(server.sign(answer(message, EmptyResponse()), 3))
    assert exchange.done


def test_an_acknowledgment_overtakes_what_waits_for_the_window() -> None:
    narrow = engine(max_mpx_count=1)
    exchange_of(narrow, CLOSE)
    narrow.submit((CLOSE,), tree=TREE)
    narrow.tell(ACKNOWLEDGMENT, tree=TREE)
    (message,) = sent(narrow)
    header, (block,) = decode_message(memoryview(message))
    assert (header.command, header.tid) == (Command.LOCKING_ANDX, TREE.tid)
    assert LockingRequest.decode_block(block, UNICODE) == ACKNOWLEDGMENT
    assert narrow.statistics().in_flight == 1


def test_an_acknowledgment_takes_an_id_of_its_own_and_two_numbers() -> None:
    talker, server = engine(), Signer()
    talker.protect(Smb1Protection(KEY))
    _, first = exchange_of(talker, CLOSE)
    talker.tell(ACKNOWLEDGMENT, tree=TREE)
    (message,) = sent(talker)
    server.check(message, 4)
    assert decode_header(message).mid != decode_header(first).mid
    _, last = exchange_of(talker, CLOSE)
    server.check(last, 6)


def test_the_answer_that_an_acknowledgment_is_not_to_have_is_ignored() -> None:
    talker = engine()
    talker.tell(ACKNOWLEDGMENT, tree=TREE)
    (message,) = sent(talker)
    talker.arrived(answer(message, Nothing(Command.LOCKING_ANDX)))
    with pytest.raises(ProtocolError):
        talker.arrived(answer(message, EmptyResponse(), command=Command.CLOSE))


def test_the_end_of_the_connection_ends_every_oplock() -> None:
    talker, holder = engine(), Holder()
    talker.oplocks = holder
    talker.tell(ACKNOWLEDGMENT, tree=TREE)
    talker.lost(ConnectionLost("cut", sent=True))
    assert holder.losses == 1
    assert not sent(talker)


# --- NT_TRANSACT in pieces --------------------------------------------------------------------------------------------


def nt_request(parameters: bytes, data: bytes) -> NtTransactRequest:
    return NtTransactRequest(NtFunction.SET_SECURITY_DESC, b"", parameters, data, len(parameters), len(data), 0, 0)


@pytest.mark.parametrize("max_buffer_size", [1024, 1500, 4356, 16644])
def test_a_long_nt_transaction_goes_in_as_many_messages_as_it_takes(max_buffer_size: int) -> None:
    talker = Smb1Engine(pid=1)
    parameters, data = b"p" * 8, bytes(range(256)) * 20
    talker.max_buffer_size = max_buffer_size
    exchange = talker.transact(nt_request(parameters, data), tree=TREE)
    (message,) = sent(talker)
    messages = [message]
    if len(message) < len(data):
        talker.arrived(answer(message, Nothing(Command.NT_TRANSACT)))
        messages += sent(talker)
        assert all(decode_header(part).command == Command.NT_TRANSACT_SECONDARY for part in messages[1:])
        assert {decode_header(part).mid for part in messages} == {decode_header(message).mid}
    assert all(len(part) <= max_buffer_size for part in messages)
    got = bytearray(len(data))
    _, (block,) = decode_message(memoryview(messages[0]))
    first = NtTransactRequest.decode_block(block, UNICODE)
    assert (first.total_parameter_count, first.total_data_count) == (8, len(data))
    assert first.parameters == parameters
    got[: len(first.data)] = first.data
    for part in messages[1:]:
        _, (block,) = decode_message(memoryview(part))
        later = NtTransactSecondary.decode_block(block, UNICODE)
        got[later.data_displacement : later.data_displacement + len(later.data)] = later.data
    assert got == data
    talker.arrived(answer(message, TransactionPart(Command.NT_TRANSACT, 0, 0, b"", 0, b"", 0)))
    assert exchange.replies[0].status == NtStatus.SUCCESS


def test_what_was_refused_after_the_leave_to_go_on_does_not_go_on() -> None:
    talker = Smb1Engine(pid=1)
    talker.max_buffer_size = 1024
    exchange = talker.transact(nt_request(b"p" * 8, bytes(5000)), tree=TREE)
    (message,) = sent(talker)
    talker.arrived(answer(message, Nothing(Command.NT_TRANSACT)))
    talker.arrived(answer(message, Nothing(Command.NT_TRANSACT), status=NtStatus.ACCESS_DENIED))
    assert exchange.replies[0].status == NtStatus.ACCESS_DENIED
    assert not sent(talker)
