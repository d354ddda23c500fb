"""The SMB1 engine, message by message: ids, window, chains, transactions, signatures, and hostile answers."""

from collections.abc import Sequence

import pytest

from smbfuse.engine.protect import Smb1Protection
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb1_exchange import NO_TREE, Smb1Exchange, Tree
from smbfuse.errors import ConnectionLost, DecodeError, NotFound, ProtocolError, SmbError
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.control import OPLOCK_RELEASE, EchoMessage, LockingRequest
from smbfuse.wire.smb1.files import CloseRequest, EmptyResponse, OpenAndxRequest, OpenAndxResponse
from smbfuse.wire.smb1.header import HEADER_SIZE, Command, Flags, Flags2, Header, decode_header
from smbfuse.wire.smb1.io import Read, ReadRequest, ReadResponse, decode_read
from smbfuse.wire.smb1.message import OEM, UNICODE, Message, Strings, decode_message, encode_message
from smbfuse.wire.smb1.nt_transact import NotifyChangeSetup, NtFunction
from smbfuse.wire.smb1.transaction import (
    NtTransactRequest,
    TransactionPart,
    TransactionRequest,
    TransactionSecondary,
)

PID = 0x4711
TREE = Tree(7, NO_TREE.flags)
KEY = bytes(range(16))
CLOSE = CloseRequest(3, 0)
OPEN = OpenAndxRequest(1, 0x40, 0x16, 0, 0, 1, 0, 0, "\\a.txt")
OPENED = OpenAndxResponse(9, 0x20, 0, 5, 0, 0, 0, 1)


class Nothing:
    """The empty block of an error."""

    def __init__(self, command: int) -> None:
        self.command = command

    def encode_block(self, at: int, strings: Strings) -> bytes:
        return bytes(3)


def engine(max_mpx_count: int = 10, **changes: object) -> Smb1Engine:
    made = Smb1Engine(pid=PID)
    settings = {
        "strings": UNICODE,
        "flags2": int(Flags2.NT_STATUS | Flags2.UNICODE),
        "max_mpx_count": max_mpx_count,
        "max_buffer_size": 16644,
        "can_cancel": True,
    }
    made.adopt(**{**settings, **changes})  # type: ignore[arg-type]
    made.login_as(11)
    return made


def sent(engine: Smb1Engine) -> list[bytes]:
    """Return what leaves now, without session headers, which must say the right length."""
    messages = []
    for head, *buffers in engine.outgoing():
        message = b"".join(buffers)
        assert int.from_bytes(head, "big") == len(message)
        messages.append(message)
    return messages


def answer(
    request: bytes, *blocks: Message, status: int = 0, flags2: int = Flags2.NT_STATUS | Flags2.UNICODE, **changes: int
) -> memoryview:
    """Return a response to `request`."""
    asked = decode_header(request)
    fields = {"mid": asked.mid, "pid_low": asked.pid_low, "pid_high": 0, "command": asked.command} | changes
    header = Header(
        fields["command"],
        status,
        Flags.REPLY,
        int(flags2),
        fields["pid_high"],
        bytes(8),
        asked.tid,
        fields["pid_low"],
        asked.uid,
        fields["mid"],
    )
    return memoryview(bytearray(encode_message(header, blocks or (Nothing(asked.command),), UNICODE)))


def exchange_of(engine: Smb1Engine, *chain: Message, moves: int = 0) -> tuple[Smb1Exchange, bytes]:
    exchange = engine.submit(chain, tree=TREE, moves=moves)
    (message,) = sent(engine)
    return exchange, message


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_request_names_its_login_tree_and_process() -> None:
    _, message = exchange_of(engine(), CLOSE)
    header, (block,) = decode_message(memoryview(message))
    assert (header.uid, header.tid, header.pid, header.flags) == (11, 7, PID, TREE.flags)
    assert CloseRequest.decode_block(block, UNICODE) == CLOSE


def test_each_request_in_flight_has_an_id_of_its_own_and_0xffff_is_nobodys() -> None:
    busy = engine(max_mpx_count=0xFFFF)
    for _ in range(0xFFFF):
        busy.submit((CLOSE,))
    mids = [decode_header(message).mid for message in sent(busy)]
    assert len(set(mids)) == len(mids) > 0xFF00
    assert 0xFFFF not in mids


def test_an_id_in_flight_is_passed_over() -> None:
    long_lived = engine()
    _, first = exchange_of(long_lived, CLOSE)
    held = decode_header(first).mid
    seen = set()
    for _ in range(0x10000):
        _, message = exchange_of(long_lived, CLOSE)
        seen.add(decode_header(message).mid)
        long_lived.arrived(answer(message, EmptyResponse()))
    assert held not in seen


def test_no_more_requests_leave_than_the_server_takes() -> None:
    narrow = engine(max_mpx_count=2)
    exchanges = [narrow.submit((CLOSE,)) for _ in range(3)]
    first, _ = sent(narrow)
    assert not sent(narrow)
    assert [exchange.sent for exchange in exchanges] == [True, True, False]
    narrow.arrived(answer(first, EmptyResponse()))
    assert len(sent(narrow)) == 1


def test_a_server_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    single = engine(max_mpx_count=1)
    for _ in range(3):
        single.submit((CLOSE,))
    for _ in range(3):
        (message,) = sent(single)
        single.arrived(answer(message, EmptyResponse()))
    assert single.statistics().queued == 0


def test_small_requests_do_not_wait_behind_reads() -> None:
    busy = engine(max_mpx_count=10)
    for index in range(20):
        busy.submit((Read(1, index, 10),), moves=10)
    busy.submit((CLOSE,))
    assert Command.CLOSE in [decode_header(message).command for message in sent(busy)]


def test_reads_leave_as_far_as_the_link_carries_them_and_others_pass() -> None:
    busy = engine(max_mpx_count=50)
    for index in range(5):
        busy.submit((Read(1, index, 60_000),), moves=60_000)
    reads = sent(busy)
    assert len(reads) == 3  # what exceeds the window begins within it
    busy.submit((CLOSE,))
    (message,) = sent(busy)
    assert decode_header(message).command == Command.CLOSE
    busy.flow.now = 1.0
    for read in reads:
        busy.arrived(answer(read, EmptyResponse()))
    assert len(sent(busy)) == 1  # a slow link, by what came back


def test_an_echo_leaves_while_everything_else_waits() -> None:
    busy = engine(max_mpx_count=10)
    for _ in range(20):
        busy.submit((CLOSE,))
    sent(busy)
    busy.ping()
    assert [decode_header(message).command for message in sent(busy)] == [Command.ECHO]


def test_a_name_that_cannot_be_spelled_is_not_found_and_nothing_leaves() -> None:
    old = engine(strings=Strings(unicode=False, codepage="cp850"))
    with pytest.raises(NotFound):
        old.submit((OpenAndxRequest(1, 0x40, 0x16, 0, 0, 1, 0, 0, "\\🐙"),))
    assert not sent(old)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_byte_for_byte() -> None:
    """ECHO of [MS-CIFS] 2.2.4.39.2, by hand."""
    talker = engine()
    exchange = talker.ping()
    (message,) = sent(talker)
    mid = message[30:32]
    talker.arrived(
        memoryview(
            bytearray.fromhex("ff534d42 2b 00000000 80 00c0 0000 0000000000000000 0000 ffff 1147 0b00")
            + mid
            + bytearray.fromhex("01 0100 0700 736d6266757365")
        )
    )
    assert exchange.done
    assert exchange.error is None
    assert EchoMessage.decode_block(exchange.replies[0].block, UNICODE) == EchoMessage(1, b"smbfuse")


def test_a_chain_is_answered_by_a_chain() -> None:
    talker = engine()
    exchange, message = exchange_of(talker, OPEN, Read(0, 0, 100))
    _, blocks = decode_message(memoryview(message))
    assert [block.command for block in blocks] == [Command.OPEN_ANDX, Command.READ_ANDX]
    assert ReadRequest.decode_block(blocks[1], UNICODE) == ReadRequest.at(0, 0, 100)
    talker.arrived(answer(message, OPENED, ReadResponse(0xFFFF, 0, b"\0", b"hello")))
    assert exchange.label == "OPEN_ANDX+READ_ANDX"
    assert [reply.status for reply in exchange.replies] == [0, 0]
    assert bytes(decode_read(exchange.replies[1].block)) == b"hello"


def test_the_status_of_a_chain_belongs_to_its_last_command() -> None:
    talker = engine()
    exchange, message = exchange_of(talker, OPEN, Read(0, 0, 100))
    talker.arrived(answer(message, OPENED, Nothing(Command.READ_ANDX), status=NtStatus.FILE_LOCK_CONFLICT))
    assert [reply.status for reply in exchange.replies] == [0, NtStatus.FILE_LOCK_CONFLICT]


def test_a_chain_that_fails_at_once_is_cut() -> None:
    talker = engine()
    exchange, message = exchange_of(talker, OPEN, Read(0, 0, 100))
    talker.arrived(answer(message, status=NtStatus.OBJECT_NAME_NOT_FOUND))
    assert [reply.status for reply in exchange.replies] == [NtStatus.OBJECT_NAME_NOT_FOUND]


def test_the_data_of_a_read_is_not_copied() -> None:
    talker = engine()
    exchange, message = exchange_of(talker, Read(3, 0, 100))
    pdu = answer(message, ReadResponse(0xFFFF, 0, b"\0", b"hello"))
    talker.arrived(pdu)
    data = decode_read(exchange.replies[0].block)
    pdu[-5] = ord("H")
    assert bytes(data) == b"Hello"


@pytest.mark.parametrize(
    "dos, status",
    [
        (0x00020001, NtStatus.OBJECT_NAME_NOT_FOUND),
        (0x00050001, NtStatus.ACCESS_DENIED),
        (0x00020002, NtStatus.LOGON_FAILURE),
        (0x00120001, NtStatus.NO_MORE_FILES),
        (0x7FFF0001, NtStatus.UNSUCCESSFUL),
    ],
)
def test_dos_errors_are_given_as_the_status_of_the_same_meaning(dos: int, status: NtStatus) -> None:
    talker = engine()
    exchange, message = exchange_of(talker, CLOSE)
    talker.arrived(answer(message, status=dos, flags2=0))
    assert exchange.replies[0].status == status


# --- transactions -----------------------------------------------------------------------------------------------------


def query(size: int = 10) -> TransactionRequest:
    return TransactionRequest(Command.TRANSACTION2, (5,), bytes(size), b"", size, 0, 2, 100)


def part(parameters: bytes, at: int, data: bytes, data_at: int, total: int) -> TransactionPart:
    return TransactionPart(Command.TRANSACTION2, 2, total, parameters, at, data, data_at)


def test_a_transaction_is_answered_in_parts() -> None:
    talker = engine()
    exchange = talker.transact(query(), tree=TREE)
    (message,) = sent(talker)
    talker.arrived(answer(message, part(b"ab", 0, b"123", 0, 6)))
    assert exchange.replies == []
    talker.arrived(answer(message, part(b"", 2, b"456", 3, 6)))
    assert exchange.done
    assert [bytes(exchange.replies[0].parameters), bytes(exchange.replies[0].data)] == [b"ab", b"123456"]
    assert talker.window.taken == 0


def test_a_long_transaction_waits_for_leave_to_go_on() -> None:
    talker = engine(max_buffer_size=1024)
    exchange = talker.transact(query(3000), tree=TREE)
    (first,) = sent(talker)
    assert len(first) <= 1024
    assert not sent(talker)
    talker.arrived(answer(first))
    later = sent(talker)
    assert all(decode_header(message).command == Command.TRANSACTION2_SECONDARY for message in later)
    assert {decode_header(message).mid for message in later} == {decode_header(first).mid}
    last = TransactionSecondary.decode_block(decode_message(memoryview(later[-1]))[1][0], UNICODE)
    assert last.parameter_displacement + len(last.parameters) == 3000
    talker.arrived(answer(first, part(b"ab", 0, b"", 0, 0)))
    assert exchange.done


def test_a_transaction_that_is_refused_ends() -> None:
    talker = engine()
    exchange = talker.transact(query(), tree=TREE)
    (message,) = sent(talker)
    talker.arrived(answer(message, status=NtStatus.OBJECT_NAME_NOT_FOUND))
    assert exchange.replies[0].status == NtStatus.OBJECT_NAME_NOT_FOUND


# --- signatures -------------------------------------------------------------------------------------------------------


class Signer:
    """The server's half: what it expects next, and how it signs."""

    def __init__(self) -> None:
        self.protection = Smb1Protection(KEY)

    def check(self, message: bytes, number: int) -> None:
        assert decode_header(message).flags2 & Flags2.SECURITY_SIGNATURE
        assert self.protection.verify(memoryview(bytearray(message)), number)

    def sign(self, pdu: memoryview, number: int) -> memoryview:
        head = bytearray(pdu)
        self.protection.sign(head, (), number)
        return memoryview(head)


def test_requests_take_two_numbers_and_a_cancel_one() -> None:
    talker, server = engine(), Signer()
    talker.protect(Smb1Protection(KEY))
    first, message = exchange_of(talker, CLOSE)
    server.check(message, 2)
    talker.cancel(first)
    (cancel,) = sent(talker)
    assert decode_header(cancel).command == Command.NT_CANCEL
    assert decode_header(cancel).mid == decode_header(message).mid
    server.check(cancel, 4)
    second, message = exchange_of(talker, CLOSE)
    server.check(message, 5)
    talker.arrived(server.sign(answer(message, EmptyResponse()), 6))
    assert second.done


def test_answers_out_of_order_keep_their_numbers() -> None:
    talker, server = engine(), Signer()
    talker.protect(Smb1Protection(KEY))
    talker.submit((CLOSE,))
    talker.submit((CLOSE,))
    first, second = sent(talker)
    talker.arrived(server.sign(answer(second, EmptyResponse()), 5))
    talker.arrived(server.sign(answer(first, EmptyResponse()), 3))
    assert talker.statistics().in_flight == 0


def test_all_parts_of_a_response_have_one_number() -> None:
    talker, server = engine(), Signer()
    talker.protect(Smb1Protection(KEY))
    exchange = talker.transact(query(), tree=TREE)
    (message,) = sent(talker)
    talker.arrived(server.sign(answer(message, part(b"ab", 0, b"123", 0, 6)), 3))
    talker.arrived(server.sign(answer(message, part(b"", 2, b"456", 3, 6)), 3))
    assert exchange.done


def test_an_answer_without_its_signature_is_the_end() -> None:
    talker = engine()
    talker.protect(Smb1Protection(KEY))
    exchange, message = exchange_of(talker, CLOSE)
    with pytest.raises(ProtocolError):
        talker.arrived(answer(message, EmptyResponse()))
    assert not exchange.done


# --- giving up --------------------------------------------------------------------------------------------------------


def test_what_was_not_sent_is_never_sent() -> None:
    narrow = engine(max_mpx_count=1)
    _, message = exchange_of(narrow, CLOSE)
    waiting = narrow.submit((CLOSE,))
    narrow.cancel(waiting)
    assert isinstance(waiting.error, ConnectionLost)
    assert not waiting.error.sent
    narrow.arrived(answer(message, EmptyResponse()))
    assert not sent(narrow)


def test_a_cancelled_request_keeps_its_place_until_its_answer() -> None:
    narrow = engine(max_mpx_count=1)
    exchange, message = exchange_of(narrow, CLOSE)
    narrow.cancel(exchange)
    sent(narrow)
    narrow.submit((CLOSE,))
    assert not sent(narrow)
    narrow.arrived(answer(message, status=NtStatus.CANCELLED))
    assert len(sent(narrow)) == 1


def test_servers_without_nt_commands_get_no_cancel() -> None:
    old = engine(can_cancel=False)
    exchange, _ = exchange_of(old, CLOSE)
    old.cancel(exchange)
    assert not sent(old)


def test_the_end_of_the_connection_ends_everything_and_says_what_had_left() -> None:
    narrow = engine(max_mpx_count=1)
    gone, _ = exchange_of(narrow, CLOSE)
    waiting = narrow.submit((CLOSE,))
    narrow.lost(ConnectionLost("cut", sent=True))
    narrow.lost(ConnectionLost("cut again", sent=True))
    assert isinstance(gone.error, ConnectionLost)
    assert isinstance(waiting.error, ConnectionLost)
    assert (gone.error.sent, waiting.error.sent) == (True, False)


# --- strange servers --------------------------------------------------------------------------------------------------


def strange(message: bytes) -> dict[str, Sequence[int] | memoryview]:
    good = answer(message, EmptyResponse())
    break_of_lock = LockingRequest(1, 0, 0, 0, 0, 0, b"")
    return {
        "no SMB at all": memoryview(bytearray(b"HTTP/1.1 400 Bad Request\r\n\r\n, and then some more")),
        "SMB2": memoryview(bytearray(b"\xfeSMB" + bytes(60))),
        "a header cut short": good[:31],
        "a block cut short": good[:34],
        "another MID": answer(message, EmptyResponse(), mid=0x777),
        "another PID": answer(message, EmptyResponse(), pid_low=0x777),
        "another PIDHigh": answer(message, EmptyResponse(), pid_high=1),
        "another command": answer(message, EmptyResponse(), command=Command.ECHO),
        "a request": memoryview(bytearray(message)),
        "a lock request": memoryview(bytearray(encode_message(unsolicited(), (break_of_lock,), UNICODE))),
    }


def unsolicited() -> Header:
    return Header(Command.LOCKING_ANDX, 0, 0, 0, 0xFFFF, bytes(8), 7, 0xFFFF, 0, 0xFFFF)


@pytest.mark.parametrize("what", strange(exchange_of(engine(), CLOSE)[1]))
def test_strange_answers_end_the_connection(what: str) -> None:
    talker = engine()
    _, message = exchange_of(talker, CLOSE)
    with pytest.raises(ProtocolError):
        talker.arrived(strange(message)[what])  # type: ignore[arg-type]


def test_a_longer_chain_than_was_asked_for_is_refused() -> None:
    talker = engine()
    _, message = exchange_of(talker, OPEN)
    with pytest.raises(ProtocolError):
        talker.arrived(answer(message, OPENED, ReadResponse(0xFFFF, 0, b"", b"")))


def test_a_chain_that_does_not_advance_is_refused() -> None:
    talker = engine()
    _, message = exchange_of(talker, OPEN, Read(0, 0, 1))
    pdu = answer(message, OPENED, ReadResponse(0xFFFF, 0, b"", b""))
    pdu[35:37] = (32).to_bytes(2, "little")
    with pytest.raises(DecodeError):
        talker.arrived(pdu)


def test_an_oplock_break_that_nobody_asked_for_is_ignored() -> None:
    talker = engine()
    exchange, _ = exchange_of(talker, CLOSE)
    notice = LockingRequest(1, OPLOCK_RELEASE, 0, 0, 0, 0, b"")
    talker.arrived(memoryview(bytearray(encode_message(unsolicited(), (notice,), UNICODE))))
    assert not exchange.done


def test_owner_tells_whose_answer_begins() -> None:
    talker = engine()
    exchange, message = exchange_of(talker, CLOSE)
    pdu = answer(message, EmptyResponse())
    assert talker.owner(pdu[:32]) == exchange.sequence
    assert talker.owner(pdu[:31]) is None
    assert talker.owner(memoryview(b"\xfeSMB" + bytes(30))) is None


def test_that_one_was_cancelled_is_no_progress_of_those_behind_it() -> None:
    talker = engine()
    first, message = exchange_of(talker, CLOSE)
    second, _ = exchange_of(talker, CLOSE)
    talker.cancel(first)
    owner = talker.owner(answer(message, EmptyResponse(), status=NtStatus.CANCELLED))
    assert owner is not None
    assert owner > second.sequence
    assert talker.owner(answer(message, EmptyResponse())) == first.sequence


def test_every_prefix_of_an_answer_is_a_value_or_a_refusal() -> None:
    talker = engine()
    _, message = exchange_of(talker, OPEN, Read(0, 0, 10))
    whole = answer(message, OPENED, ReadResponse(0xFFFF, 0, b"\0", b"hello"))
    for end in range(len(whole)):
        fresh = engine()
        exchange, _ = exchange_of(fresh, OPEN, Read(0, 0, 10))
        if end == HEADER_SIZE:  # how impacket says that something failed
            fresh.arrived(memoryview(bytearray(whole[:end])))
            assert not exchange.replies[0].block.words
            continue
        with pytest.raises(SmbError):
            fresh.arrived(memoryview(bytearray(whole[:end])))


def test_old_names_travel_in_the_code_page() -> None:
    old = engine(strings=OEM)
    _, message = exchange_of(old, OPEN)
    assert message.endswith(b"\\a.txt\0")


# --- requests that stand: answered when something happens, perhaps never ----------------------------------------------


def watching(busy: Smb1Engine) -> tuple[Smb1Exchange, bytes]:
    setup = NotifyChangeSetup(0x1DF, 5, 1).encode()
    request = NtTransactRequest(NtFunction.NOTIFY_CHANGE, setup, b"", b"", 0, 0, 4096, 0)
    exchange = busy.transact(request, tree=TREE, standing=True)
    (message,) = sent(busy)
    return exchange, message


def test_what_stands_keeps_one_place_and_nobody_waits_for_it() -> None:
    busy = engine(max_mpx_count=2)
    exchange, watch = watching(busy)
    for moves in (0, 1, 1):
        closed, message = exchange_of(busy, CLOSE, moves=moves)
        busy.submit((CLOSE,), tree=TREE)
        assert sent(busy) == []
        busy.arrived(answer(message, EmptyResponse()))
        assert closed.done
        (message,) = sent(busy)
        busy.arrived(answer(message, EmptyResponse()))
    assert (exchange.done, busy.window.standing) == (False, 1)
    busy.arrived(answer(watch, status=NtStatus.NOTIFY_ENUM_DIR))
    assert [reply.status for reply in exchange.replies] == [NtStatus.NOTIFY_ENUM_DIR]
    assert (busy.window.standing, busy.window.available) == (0, 2)


def test_what_stands_is_cancelled_by_its_multiplex_id() -> None:
    busy = engine()
    exchange, watch = watching(busy)
    busy.cancel(exchange)
    (cancel,) = sent(busy)
    assert (cancel[4], decode_header(cancel).mid) == (Command.NT_CANCEL, decode_header(watch).mid)
    busy.arrived(answer(watch, status=NtStatus.CANCELLED))
    assert exchange.done
    assert (busy.window.standing, busy.window.available) == (0, 10)
