"""The SMB2 engine, byte by byte: what it sends, what it makes of answers, and how it bears a hostile server."""

from collections.abc import Sequence

import pytest

from smbfuse.engine.dialect import Cipher, SigningAlgorithm
from smbfuse.engine.flow import Flow
from smbfuse.engine.protect import PreauthHash, Smb2Protection
from smbfuse.engine.smb2 import CREDIT_SIZE, Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange, Tree
from smbfuse.errors import ConnectionLost, DecodeError, ProtocolError, SmbError
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.smb2.breaks import LeaseBreak
from smbfuse.wire.smb2.control import EchoRequest, EchoResponse
from smbfuse.wire.smb2.create import CloseRequest, CloseResponse, CreateResponse
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import (
    RELATED_FILE_ID,
    UNSOLICITED,
    Arrived,
    Command,
    Header,
    HeaderFlags,
    join_compound,
    split_compound,
)
from smbfuse.wire.smb2.info import QueryInfoRequest, QueryInfoResponse
from smbfuse.wire.smb2.io import ReadResponse, encode_read
from smbfuse.wire.smb2.message import HEADER_SIZE
from smbfuse.wire.smb2.notify import ChangeNotifyRequest
from tests.support.server_protection import ServerProtection

SESSION_ID = 0x0102030405060708
SESSION_KEY = bytes(range(16))
FILE_ID = bytes(range(0x20, 0x30))
TREE = Tree(7, seal=False)

ECHO = Request(Command.ECHO, EchoRequest().encode())
CREATE = Request(Command.CREATE, b"create: the engine does not look inside")
QUERY = Request(Command.QUERY_INFO, QueryInfoRequest(1, 18, 100, b"", 0, 0, RELATED_FILE_ID).encode(), payload=100)
CLOSE = Request(Command.CLOSE, CloseRequest(0, RELATED_FILE_ID).encode())

NOTIFY = Request(Command.CHANGE_NOTIFY, ChangeNotifyRequest(1, 65536, FILE_ID, 0x1DF).encode(), payload=65536)

CREATED = CreateResponse(0, 0, 1, 1, 1, 1, 1, 0, 0, 0x20, FILE_ID).encode()
QUERIED = QueryInfoResponse(b"information").encode()
CLOSED = CloseResponse(0, 0, 0, 0, 0, 0, 0, 0).encode()
REFUSED = ErrorResponse().encode()


def read(length: int, offset: int = 0) -> Request:
    return Request(Command.READ, encode_read(FILE_ID, offset, length), payload=length)


def engine_with(credits: int, *, multi_credit: bool = True, max_credits: int = 64) -> Smb2Engine:
    engine = Smb2Engine(max_credits=max_credits)
    engine.adopt(multi_credit=multi_credit)
    engine.session_id = SESSION_ID
    engine.window.granted(credits - 1)
    engine.flow.window = 1 << 40  # credits alone are the limit
    return engine


def sent(engine: Smb2Engine) -> list[list[tuple[Arrived, bytes]]]:
    """Return what leaves now: for each PDU its elements with their headers."""
    pdus = []
    for buffers in engine.outgoing():
        whole = b"".join(bytes(buffer) for buffer in buffers)
        kind, length = nbss.decode_header(whole[:4])
        assert (kind, length) == (nbss.SESSION_MESSAGE, len(whole) - 4)
        elements = split_compound(memoryview(whole[4:]))
        pdus.append([(header, bytes(element)) for header, element in elements])
    return pdus


def sent_one(engine: Smb2Engine) -> list[tuple[Arrived, bytes]]:
    (pdu,) = sent(engine)
    return pdu


def response(
    request: Arrived | int,
    body: bytes,
    *,
    command: Command | None = None,
    status: int = 0,
    credits: int = 1,
    flags: HeaderFlags = HeaderFlags.SERVER_TO_REDIR,
    async_id: int = 0,
) -> bytes:
    message_id, code = (request, command) if isinstance(request, int) else (request.message_id, request.command)
    header = Header(
        command=code if command is None else command,  # type: ignore[arg-type]  # an int comes with its command
        message_id=message_id,
        status=status,
        credits=credits,
        flags=flags,
        process_id=async_id & 0xFFFFFFFF,
        tree_id=async_id >> 32,
        session_id=SESSION_ID,
    )
    return header.encode() + body


def arrive(engine: Smb2Engine, *elements: bytes) -> None:
    engine.arrived(memoryview(bytearray(join_compound(elements))))


def statuses(exchange: Smb2Exchange) -> list[int]:
    assert exchange.done
    assert exchange.error is None
    return [reply.status for reply in exchange.replies]


# -- sending and answers


def test_a_request_leaves_with_its_ids_and_its_answer_ends_it() -> None:
    engine = engine_with(1)
    exchange = engine.submit((ECHO,), tree=TREE)
    before = exchange.sent
    ((header, element),) = sent_one(engine)
    assert (before, exchange.sent) == (False, True)
    assert (header.command, header.message_id, header.tree_id, header.session_id) == (13, 0, 7, SESSION_ID)
    assert (header.status, header.flags, header.next_command, header.signature) == (0, 0, 0, bytes(16))
    assert element[HEADER_SIZE:] == ECHO.body
    arrive(engine, response(header, EchoResponse().encode()))
    assert statuses(exchange) == [0]
    assert bytes(exchange.replies[0].element[HEADER_SIZE:]) == EchoResponse().encode()


def test_message_ids_go_on_by_the_cost_of_each_request() -> None:
    engine = engine_with(40)
    for payload in (0, 1, CREDIT_SIZE, CREDIT_SIZE + 1, 4 * CREDIT_SIZE):
        engine.submit((read(payload),))
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert [header.credit_charge for header in headers] == [1, 1, 1, 2, 4]
    assert [header.message_id for header in headers] == [0, 1, 2, 3, 5]


def test_without_large_mtu_every_request_costs_one_credit_and_says_nothing() -> None:
    engine = engine_with(40, multi_credit=False)
    engine.submit((read(CREDIT_SIZE),))
    engine.submit((read(CREDIT_SIZE),))
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert [(header.credit_charge, header.message_id) for header in headers] == [(0, 0), (0, 1)]


def test_after_a_multi_protocol_negotiation_message_ids_begin_with_one() -> None:
    engine = Smb2Engine(max_credits=64, first_message_id=1)
    engine.submit((ECHO,))
    assert sent_one(engine)[0][0].message_id == 1


def test_credits_are_asked_for_up_to_the_wish_and_not_twice() -> None:
    engine = engine_with(3, max_credits=64)
    first, second = engine.submit((ECHO,)), engine.submit((ECHO,))
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert [header.credits for header in headers] == [1 + 61, 1]
    arrive(engine, response(headers[0], EchoResponse().encode(), credits=30))
    arrive(engine, response(headers[1], EchoResponse().encode(), credits=1))
    assert first.done
    assert second.done
    assert engine.window.capacity == 32
    engine.submit((ECHO,))
    assert sent_one(engine)[0][0].credits == 1 + 32


def test_a_window_that_outgrew_the_wish_is_asked_to_shrink_but_never_to_nothing() -> None:
    engine = engine_with(100, max_credits=64)
    engine.submit((read(4 * CREDIT_SIZE),))
    assert sent_one(engine)[0][0].credits == 1


def test_what_does_not_fit_the_window_waits_for_credits() -> None:
    engine = engine_with(1)
    first, second = engine.submit((ECHO,)), engine.submit((ECHO,))
    header = sent_one(engine)[0][0]
    assert sent(engine) == []
    assert engine.statistics().queued == 1
    arrive(engine, response(header, EchoResponse().encode()))
    assert sent_one(engine)[0][0].message_id == 1
    assert (first.done, second.done) == (True, False)


def test_small_requests_do_not_wait_behind_a_queue_of_reads() -> None:
    engine = engine_with(32)
    reads = [engine.submit((read(8 * CREDIT_SIZE, number),), bulk=True) for number in range(20)]
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert len(headers) < len(reads)
    stat = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    assert [header.command for header, _ in sent_one(engine)] == [Command.CREATE, Command.QUERY_INFO, Command.CLOSE]
    assert stat.sent


def test_reads_leave_as_far_as_the_link_carries_them_and_others_pass() -> None:
    engine = engine_with(500)
    engine.flow = Flow()
    for number in range(4):
        engine.submit((read(CREDIT_SIZE, number),), bulk=True)
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert len(headers) == 2
    engine.submit((ECHO,))
    assert [header.command for header, _ in sent_one(engine)] == [Command.ECHO]
    engine.flow.now = 0.001
    arrive(engine, response(headers[0], ReadResponse(bytes(CREDIT_SIZE), 0, 0).encode()))
    assert len(sent(engine)) == 2  # that was fast
    assert engine.flow.request > 1 << 20


def test_what_is_given_up_keeps_nobody_from_leaving() -> None:
    engine = engine_with(500)
    engine.flow = Flow()
    given_up = [engine.submit((read(CREDIT_SIZE, number),), bulk=True) for number in range(2)]
    (first, *_) = [pdu[0][0] for pdu in sent(engine)]
    waiting = engine.submit((read(CREDIT_SIZE, 2),), bulk=True)
    assert not sent(engine)
    for exchange in given_up:
        engine.cancel(exchange)
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert [header.command for header in headers] == [Command.CANCEL, Command.CANCEL, Command.READ]
    assert waiting.sent
    engine.flow.now = 0.001
    arrive(engine, response(first, ReadResponse(bytes(CREDIT_SIZE), 0, 0).encode()))  # after all
    assert engine.flow.in_flight == CREDIT_SIZE


def test_reads_are_not_kept_waiting_by_small_requests_for_ever() -> None:
    engine = engine_with(1)
    waiting_read = engine.submit((read(100),), bulk=True)
    stats = [engine.submit((ECHO,)) for _ in range(5)]
    order = []
    for _ in range(3):
        header = sent_one(engine)[0][0]
        order.append(Command(header.command))
        arrive(
            engine,
            response(header, EchoResponse().encode() if header.command == 13 else ReadResponse(b"", 0, 0).encode()),
        )
    assert Command.READ in order
    assert waiting_read.done
    assert not stats[-1].done


def test_a_large_compound_is_not_passed_by_reads_for_ever() -> None:
    engine = engine_with(40)
    for number in range(50):
        engine.submit((read(CREDIT_SIZE, number),), bulk=True)
    headers = [pdu[0][0] for pdu in sent(engine)]
    listing = engine.submit((CREATE, read(30 * CREDIT_SIZE)), tree=TREE)
    while not listing.sent:
        arrive(engine, response(headers.pop(0), ReadResponse(b"", 0, 0).encode()))
        assert [header.command for pdu in sent(engine) for header, _ in pdu] in ([], [Command.CREATE, Command.READ])


def test_a_read_is_passed_by_a_bounded_number_of_small_requests() -> None:
    engine = engine_with(40)
    for _ in range(12):
        engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    in_flight = [header for pdu in sent(engine) for header, _ in pdu]
    waiting_read = engine.submit((read(16 * CREDIT_SIZE),), bulk=True)
    passed = 0
    while not waiting_read.sent:
        engine.submit((ECHO,), tree=TREE)
        passed += 1
        header = in_flight.pop(0)
        body = {Command.CREATE: CREATED, Command.QUERY_INFO: QUERIED, Command.CLOSE: CLOSED, Command.ECHO: CLOSED}
        arrive(engine, response(header, body[Command(header.command)]))
        in_flight += [header for pdu in sent(engine) for header, _ in pdu]
        assert passed < 100


def test_an_echo_leaves_while_everything_else_waits() -> None:
    engine = engine_with(3)
    engine.submit((ECHO,), tree=TREE)
    engine.submit((ECHO,), tree=TREE)
    engine.submit((ECHO,), tree=TREE)
    assert len(sent(engine)) == 2
    ping = engine.ping()
    assert sent_one(engine)[0][0].command == Command.ECHO
    assert ping.sent


def test_what_costs_more_than_the_whole_window_ends_with_an_error() -> None:
    engine = engine_with(4)
    exchange = engine.submit((read(8 * CREDIT_SIZE),), bulk=True)
    assert sent(engine) == []
    assert isinstance(exchange.error, ProtocolError)


def test_a_server_that_takes_back_all_credits_ends_the_connection() -> None:
    engine = engine_with(1)
    engine.submit((ECHO,))
    header = sent_one(engine)[0][0]
    with pytest.raises(ProtocolError, match="credits"):
        arrive(engine, response(header, EchoResponse().encode(), credits=0))


# -- compounds


def test_a_compound_is_related_aligned_and_answered_together() -> None:
    engine = engine_with(8)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    elements = sent_one(engine)
    headers = [header for header, _ in elements]
    assert exchange.label == "CREATE+QUERY_INFO+CLOSE"
    assert [bool(header.flags & HeaderFlags.RELATED_OPERATIONS) for header in headers] == [False, True, True]
    assert [header.next_command % 8 for header in headers] == [0, 0, 0]
    assert headers[-1].next_command == 0
    assert all(header.session_id == SESSION_ID and header.tree_id == 7 for header in headers)
    bodies = (CREATED, QUERIED, CLOSED)
    arrive(engine, *(response(header, body) for header, body in zip(headers, bodies, strict=True)))
    assert statuses(exchange) == [0, 0, 0]
    assert engine.statistics().in_flight == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_compound_may_be_answered_in_pieces(order: Sequence[int]) -> None:
    engine = engine_with(8)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    headers = [header for header, _ in sent_one(engine)]
    bodies = (CREATED, QUERIED, CLOSED)
    for number, index in enumerate(order):
        assert exchange.done == (number == 3)
        arrive(engine, response(headers[index], bodies[index]))
    assert statuses(exchange) == [0, 0, 0]
    assert [reply.element[HEADER_SIZE] for reply in exchange.replies] == [0x59, 0x09, 0x3C]


def test_a_compound_too_large_for_the_window_goes_out_one_by_one() -> None:
    engine = engine_with(1)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    for body, expected in ((CREATED, None), (QUERIED, 24), (CLOSED, 8)):
        ((header, element),) = sent_one(engine)
        assert not header.flags & HeaderFlags.RELATED_OPERATIONS
        if expected is not None:
            at = HEADER_SIZE + expected
            assert element[at : at + 16] == FILE_ID
        assert not exchange.done
        arrive(engine, response(header, body))
    assert statuses(exchange) == [0, 0, 0]


def test_without_compounds_an_error_in_the_middle_still_closes() -> None:
    engine = engine_with(8)
    engine.compounds.enabled = False
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    for body, status in ((CREATED, 0), (REFUSED, NtStatus.ACCESS_DENIED), (CLOSED, 0)):
        arrive(engine, response(sent_one(engine)[0][0], body, status=status))
    assert statuses(exchange) == [0, NtStatus.ACCESS_DENIED, 0]


def test_without_compounds_nothing_follows_a_create_that_failed() -> None:
    engine = engine_with(8)
    engine.compounds.enabled = False
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    arrive(engine, response(sent_one(engine)[0][0], REFUSED, status=NtStatus.OBJECT_NAME_NOT_FOUND))
    assert statuses(exchange) == [NtStatus.OBJECT_NAME_NOT_FOUND]
    assert sent(engine) == []


def test_without_compounds_a_create_that_names_no_file_ends_its_exchange_too() -> None:
    engine = engine_with(8)
    engine.compounds.enabled = False
    exchange = engine.submit((CREATE, CLOSE), tree=TREE)
    header = sent_one(engine)[0][0]
    with pytest.raises(DecodeError):
        arrive(engine, response(header, CREATED[:70]))
    engine.lost(ConnectionLost("gone", sent=True))
    assert exchange.error is not None


@pytest.mark.parametrize("status", [NtStatus.INVALID_PARAMETER, NtStatus.FILE_CLOSED, NtStatus.NOT_SUPPORTED])
def test_a_server_that_knows_no_related_requests_is_asked_again_one_by_one(status: NtStatus) -> None:
    engine = engine_with(8)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    create, *related = [header for header, _ in sent_one(engine)]
    arrive(engine, response(create, CREATED), *(response(header, REFUSED, status=status) for header in related))
    for body, expected in ((QUERIED, 24), (CLOSED, 8)):  # the file is open already
        assert not exchange.done
        ((header, element),) = sent_one(engine)
        assert element[HEADER_SIZE + expected : HEADER_SIZE + expected + 16] == FILE_ID
        arrive(engine, response(header, body))
    assert statuses(exchange) == [0, 0, 0]
    engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    assert len(sent_one(engine)) == 1


def test_a_related_request_that_fails_later_is_only_that() -> None:
    engine = engine_with(8)
    for code in (0, NtStatus.INVALID_PARAMETER):
        exchange = engine.submit((CREATE, read(10)), tree=TREE)
        create, related = [header for header, _ in sent_one(engine)]
        arrive(engine, response(create, CREATED), response(related, REFUSED if code else QUERIED, status=code))
        assert statuses(exchange) == [0, code]
    assert engine.compounds.enabled


def test_a_server_that_goes_on_with_another_file_gets_no_more_compounds() -> None:
    engine = engine_with(8)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    create, query, close = [header for header, _ in sent_one(engine)]
    refusal = response(create, REFUSED, status=NtStatus.OBJECT_NAME_NOT_FOUND)
    arrive(engine, refusal, response(query, QUERIED), response(close, CLOSED))
    assert statuses(exchange)[0] == NtStatus.OBJECT_NAME_NOT_FOUND
    assert (engine.compounds.enabled, engine.compounds.refused) == (False, False)


def test_what_became_of_compounds_is_remembered() -> None:
    engine = engine_with(8)
    engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    headers = [header for header, _ in sent_one(engine)]
    engine.submit((ECHO,))
    sent(engine)
    arrive(engine, *(response(header, REFUSED, status=NtStatus.OBJECT_NAME_NOT_FOUND) for header in headers))
    assert engine.compounds.refused
    engine.lost(ConnectionLost("gone", sent=True))
    assert not engine.compounds.unanswered
    other = engine_with(8)
    other.submit((CREATE, QUERY, CLOSE), tree=TREE)
    sent(other)
    other.lost(ConnectionLost("gone", sent=True))
    other.lost(ConnectionLost("gone", sent=True))
    assert (other.compounds.unanswered, other.compounds.refused) == (True, False)


def test_explicit_file_ids_stay_as_they_are_when_unrolled() -> None:
    engine = engine_with(8)
    engine.compounds.enabled = False
    engine.submit((CREATE, read(10)), tree=TREE)
    arrive(engine, response(sent_one(engine)[0][0], CreateResponse(0, 0, 1, 1, 1, 1, 1, 0, 0, 0, b"x" * 16).encode()))
    ((_, element),) = sent_one(engine)
    assert element[HEADER_SIZE:] == read(10).body


# -- asynchronous answers and cancelling


def test_an_open_that_the_server_is_at_work_on_may_be_held_up_by_others() -> None:
    engine = engine_with(2)
    exchange = engine.submit((CREATE, read(10)), tree=TREE)
    header = sent_one(engine)[0][0]
    pending = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
    arrive(engine, response(header, REFUSED, status=NtStatus.PENDING, flags=pending, async_id=5, credits=1))
    assert exchange.in_hand


def test_an_interim_answer_brings_credits_and_the_final_one_ends_it() -> None:
    engine = engine_with(1)
    exchange = engine.submit((ECHO,), tree=TREE)
    header = sent_one(engine)[0][0]
    pending = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
    for _ in range(2):
        arrive(engine, response(header, REFUSED, status=NtStatus.PENDING, flags=pending, async_id=5, credits=3))
    assert not exchange.done
    assert not exchange.in_hand
    assert engine.window.available == 6
    arrive(engine, response(header, EchoResponse().encode(), flags=pending, async_id=5, credits=0))
    assert statuses(exchange) == [0]


@pytest.mark.parametrize("async_id", [None, 0x1122334455667788])
def test_cancelling_names_the_request_and_keeps_its_credits(async_id: int | None) -> None:
    engine = engine_with(3)
    exchange = engine.submit((ECHO,), tree=TREE)
    header = sent_one(engine)[0][0]
    if async_id is not None:
        pending = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
        interim = response(header, REFUSED, status=NtStatus.PENDING, flags=pending, async_id=async_id, credits=0)
        arrive(engine, interim)
    engine.cancel(exchange)
    ((cancel, element),) = sent_one(engine)
    assert (cancel.command, cancel.message_id, cancel.credits) == (Command.CANCEL, header.message_id, 0)
    assert bool(cancel.flags & HeaderFlags.ASYNC_COMMAND) == (async_id is not None)
    assert Header.decode(element).async_id == (async_id if async_id is not None else 7 << 32)
    assert engine.window.taken == 1
    assert sent(engine) == []
    arrive(engine, response(header, REFUSED, status=NtStatus.CANCELLED))
    assert exchange.done
    assert engine.window.taken == 0


def test_cancelling_what_was_not_sent_takes_it_back() -> None:
    engine = engine_with(1)
    engine.submit((ECHO,))
    waiting = engine.submit((ECHO,))
    header = sent_one(engine)[0][0]
    engine.cancel(waiting)
    assert waiting.done
    arrive(engine, response(header, EchoResponse().encode()))
    assert sent(engine) == []


def test_cancelling_what_is_answered_already_sends_nothing() -> None:
    engine = engine_with(2)
    exchange = engine.submit((ECHO,))
    header = sent_one(engine)[0][0]
    engine.cancel(exchange)
    arrive(engine, response(header, EchoResponse().encode()))
    engine.cancel(exchange)
    assert sent(engine) == []


def test_an_unrolled_compound_that_has_begun_goes_on_to_its_close() -> None:
    engine = engine_with(8)
    engine.compounds.enabled = False
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    arrive(engine, response(sent_one(engine)[0][0], CREATED))
    engine.cancel(exchange)
    commands = []
    for body in (QUERIED, CLOSED):
        header = sent_one(engine)[0][0]
        commands.append(header.command)
        arrive(engine, response(header, body))
    assert commands == [Command.QUERY_INFO, Command.CLOSE]
    assert exchange.done


# -- loss


def test_loss_ends_everything_and_tells_what_may_have_left() -> None:
    engine = engine_with(1)
    gone, waiting = engine.submit((ECHO,)), engine.submit((ECHO,))
    sent(engine)
    ended: list[Smb2Exchange] = []
    for exchange in (gone, waiting):
        exchange.on_done = lambda exchange=exchange: ended.append(exchange)
    engine.lost(ConnectionLost("cut", sent=True))
    assert ended == [gone, waiting]
    errors = [exchange.error for exchange in ended]
    assert [isinstance(error, ConnectionLost) and error.sent for error in errors] == [True, False]
    late = engine.submit((ECHO,))
    engine.lost(SmbError("over"))
    assert str(late.error) == "over"
    assert engine.statistics().in_flight == engine.statistics().queued == 0


def test_the_owner_of_a_pdu_is_told_from_its_first_bytes() -> None:
    engine = engine_with(4)
    engine.submit((ECHO,))
    second = engine.submit((ECHO,))
    headers = [pdu[0][0] for pdu in sent(engine)]
    pdu = memoryview(response(headers[1], EchoResponse().encode()))
    assert engine.owner(pdu) == engine.owner(pdu[:32]) == second.sequence
    assert engine.owner(pdu[:31]) is None
    assert engine.owner(memoryview(b"\xfdSMB" + bytes(60))) is None
    assert engine.owner(memoryview(response(99, b"", command=Command.ECHO))) is None


def test_that_one_was_cancelled_is_no_progress_of_those_behind_it() -> None:
    engine = engine_with(4)
    first = engine.submit((ECHO,))
    second = engine.submit((ECHO,))
    headers = [pdu[0][0] for pdu in sent(engine)]
    engine.cancel(first)
    said = memoryview(response(headers[0], b"", status=NtStatus.CANCELLED))
    owner = engine.owner(said)
    assert owner is not None
    assert owner > second.sequence
    late = memoryview(response(headers[0], EchoResponse().encode()))
    assert engine.owner(late) == first.sequence  # bytes that others had to wait behind


# -- hostile servers


def in_flight() -> tuple[Smb2Engine, Arrived]:
    engine = engine_with(4)
    engine.submit((ECHO,), tree=TREE)
    return engine, sent_one(engine)[0][0]


def test_an_answer_to_nothing_is_refused() -> None:
    engine, header = in_flight()
    with pytest.raises(ProtocolError, match="nobody waits"):
        arrive(engine, response(header.message_id + 1, EchoResponse().encode(), command=Command.ECHO))


def test_a_second_answer_is_refused() -> None:
    engine, header = in_flight()
    arrive(engine, response(header, EchoResponse().encode()))
    with pytest.raises(ProtocolError, match="nobody waits"):
        arrive(engine, response(header, EchoResponse().encode()))


def test_an_answer_to_another_command_is_refused() -> None:
    engine, header = in_flight()
    with pytest.raises(ProtocolError, match="ECHO"):
        arrive(engine, response(header.message_id, EchoResponse().encode(), command=Command.READ))


def test_a_request_from_the_server_is_refused() -> None:
    engine, header = in_flight()
    with pytest.raises(ProtocolError, match="a request"):
        arrive(engine, response(header, EchoResponse().encode(), flags=HeaderFlags(0)))


@pytest.mark.parametrize(
    "pdu",
    [
        b"",
        b"\xfe",
        b"\xfeSMB",
        b"\xffSMB" + bytes(60),
        b"\xfcSMB" + bytes(60),
        b"\xfdSMB" + bytes(60),
        b"\xfeSMB" + bytes(60),
        bytes(100),
    ],
    ids=["nothing", "a byte", "magic", "SMB1", "compressed", "sealed", "empty header", "zeros"],
)
def test_what_is_no_answer_is_refused(pdu: bytes) -> None:
    engine, _ = in_flight()
    with pytest.raises(ProtocolError):
        engine.arrived(memoryview(bytearray(pdu)))


def test_credits_without_end_do_no_harm() -> None:
    engine = engine_with(4)
    for _ in range(5):
        exchange = engine.submit((ECHO,))
        arrive(engine, response(sent_one(engine)[0][0], EchoResponse().encode(), credits=0xFFFF))
        assert exchange.done
    assert engine.window.available == 0xFFFF


def test_a_break_that_nobody_asked_for_is_borne() -> None:
    engine, header = in_flight()
    notice = LeaseBreak(1, 1, bytes(16), 7, 0, 0, 0, 0).encode()
    arrive(engine, response(UNSOLICITED, notice, command=Command.OPLOCK_BREAK, credits=0))
    with pytest.raises(ProtocolError, match="unsolicited"):
        arrive(engine, response(UNSOLICITED, EchoResponse().encode(), command=Command.ECHO))
    arrive(engine, response(header, EchoResponse().encode()))


# -- protection


def protected(*, sign: bool = True, seal: bool = False) -> tuple[Smb2Engine, ServerProtection]:
    engine = engine_with(8)
    cipher = Cipher.AES_128_GCM
    engine.protect(
        Smb2Protection(
            0x0311, SESSION_KEY, signing_id=SigningAlgorithm.AES_GMAC, cipher_id=cipher, sign=sign, seal=seal
        )
    )
    return engine, ServerProtection(0x0311, SESSION_KEY, signing_id=SigningAlgorithm.AES_GMAC, cipher_id=cipher)


def signed(server: ServerProtection, element: bytes) -> bytes:
    part = bytearray(element)
    server.sign(part, Header.decode(element).message_id)
    return bytes(part)


def test_every_element_of_a_compound_is_signed_and_verified() -> None:
    engine, server = protected()
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=TREE)
    elements = sent_one(engine)
    assert all(header.flags & HeaderFlags.SIGNED and header.signature != bytes(16) for header, _ in elements)
    for (header, _), body in zip(elements, (CREATED, QUERIED, CLOSED), strict=True):
        arrive(engine, signed(server, response(header, body)))
    assert statuses(exchange) == [0, 0, 0]


@pytest.mark.parametrize("harm", ["flipped", "unsigned"])
def test_an_answer_that_is_not_signed_rightly_is_refused(harm: str) -> None:
    engine, server = protected()
    engine.submit((ECHO,), tree=TREE)
    answer = response(sent_one(engine)[0][0], EchoResponse().encode())
    if harm == "flipped":
        answer = signed(server, answer)[:-1] + b"\x01"
    with pytest.raises(ProtocolError, match="signature"):
        arrive(engine, answer)


def test_a_single_request_can_be_signed_within_an_unsigned_session() -> None:
    engine, server = protected(sign=False)
    plain = engine.submit((ECHO,), tree=TREE)
    proof = engine.submit((ECHO,), tree=TREE, signed=True)
    headers = [pdu[0][0] for pdu in sent(engine)]
    assert [bool(header.flags & HeaderFlags.SIGNED) for header in headers] == [False, True]
    arrive(engine, response(headers[0], EchoResponse().encode()))
    with pytest.raises(ProtocolError, match="no signature"):
        arrive(engine, response(headers[1], EchoResponse().encode()))
    arrive(engine, signed(server, response(headers[1], EchoResponse().encode())))
    assert plain.done
    assert proof.done


def test_a_session_that_the_server_forgot_is_believed_unsigned() -> None:
    engine, _ = protected()
    exchange = engine.submit((ECHO,), tree=TREE)
    header = sent_one(engine)[0][0]
    arrive(engine, response(header, REFUSED, status=NtStatus.USER_SESSION_DELETED))
    assert statuses(exchange) == [NtStatus.USER_SESSION_DELETED]


def test_what_was_asked_before_the_login_may_be_answered_unsigned_after_it() -> None:
    engine = engine_with(8)
    ping = engine.ping()
    header = sent_one(engine)[0][0]
    engine.protect(Smb2Protection(0x0311, SESSION_KEY, signing_id=SigningAlgorithm.AES_GMAC, sign=True))
    arrive(engine, response(header, EchoResponse().encode()))
    assert ping.done


@pytest.mark.parametrize("whole_session", [True, False], ids=["session", "tree"])
def test_a_sealed_compound_travels_as_one_and_its_answer_too(whole_session: bool) -> None:
    engine, server = protected(sign=True, seal=whole_session)
    tree = TREE if whole_session else Tree(7, seal=True)
    exchange = engine.submit((CREATE, QUERY, CLOSE), tree=tree)
    (buffers,) = engine.outgoing()
    packet = b"".join(bytes(buffer) for buffer in buffers)
    assert packet[4:8] == b"\xfdSMB"
    headers = [header for header, _ in split_compound(memoryview(server.unseal(packet[4:])))]
    assert not any(header.flags & HeaderFlags.SIGNED for header in headers)
    answers = [response(header, body) for header, body in zip(headers, (CREATED, QUERIED, CLOSED), strict=True)]
    engine.arrived(memoryview(bytearray(server.seal(SESSION_ID, join_compound(answers)))))
    assert statuses(exchange) == [0, 0, 0]


def test_a_plain_answer_to_a_sealed_request_is_refused() -> None:
    engine, server = protected(sign=False)
    engine.submit((ECHO,), tree=Tree(7, seal=True))
    (buffers,) = engine.outgoing()
    ((header, _),) = split_compound(memoryview(server.unseal(b"".join(bytes(part) for part in buffers)[4:])))
    with pytest.raises(ProtocolError, match="unencrypted"):
        arrive(engine, response(header, EchoResponse().encode()))


def test_a_cancel_is_protected_as_its_request_was() -> None:
    engine, server = protected(seal=True)
    exchange = engine.submit((ECHO,), tree=TREE)
    engine.outgoing()
    engine.cancel(exchange)
    (buffers,) = engine.outgoing()
    ((header, _),) = split_compound(memoryview(server.unseal(b"".join(bytes(part) for part in buffers)[4:])))
    assert header.command == Command.CANCEL
    engine, server = protected()
    exchange = engine.submit((ECHO,), tree=TREE)
    sent(engine)
    engine.cancel(exchange)
    ((header, _),) = sent_one(engine)
    assert header.flags & HeaderFlags.SIGNED


def test_the_hash_of_the_login_takes_what_the_specification_lists() -> None:
    engine = engine_with(1)
    expected = PreauthHash()

    def perform(command: Command, status: int, *, hashed: bool) -> Reply:
        exchange = engine.submit((Request(command, b"request"),))
        ((header, element),) = sent_one(engine)
        expected.update(element)
        answer = response(header, b"response", status=status)
        if hashed:
            expected.update(answer)
        arrive(engine, answer)
        return exchange.replies[0]

    perform(Command.NEGOTIATE, 0, hashed=True)
    perform(Command.SESSION_SETUP, NtStatus.MORE_PROCESSING_REQUIRED, hashed=True)
    perform(Command.SESSION_SETUP, 0, hashed=False)
    assert engine.preauth.digest == expected.digest


# -- requests that stand: answered when something happens, perhaps never


def stand(engine: Smb2Engine) -> tuple[Smb2Exchange, Arrived]:
    exchange = engine.submit((NOTIFY,), tree=TREE, standing=True)
    return exchange, sent_one(engine)[0][0]


def interim(request: Arrived, *, credits: int) -> bytes:
    flags = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
    return response(request, REFUSED, status=NtStatus.PENDING, credits=credits, flags=flags, async_id=99)


def test_an_interim_response_gives_the_place_of_what_stands_back() -> None:
    engine = engine_with(8)
    exchange, request = stand(engine)
    assert (engine.window.standing, engine.window.taken, engine.window.capacity) == (1, 0, 7)
    arrive(engine, interim(request, credits=1))
    assert (engine.window.standing, engine.window.capacity) == (0, 8)
    assert not exchange.done
    flags = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND
    arrive(engine, response(request, REFUSED, status=NtStatus.NOTIFY_ENUM_DIR, credits=0, flags=flags, async_id=99))
    assert statuses(exchange) == [NtStatus.NOTIFY_ENUM_DIR]
    assert (engine.window.standing, engine.window.capacity) == (0, 8)


def test_what_stands_holds_its_place_until_a_server_without_interim_responses_answers() -> None:
    engine = engine_with(8)
    exchange, request = stand(engine)
    for _ in range(3):
        engine.submit((ECHO,))
        ((echo, _),) = sent_one(engine)
        arrive(engine, response(echo, EchoResponse().encode()))
    assert (engine.window.standing, engine.window.capacity) == (1, 7)
    arrive(engine, response(request, REFUSED, status=NtStatus.NOTIFY_ENUM_DIR))
    assert statuses(exchange) == [NtStatus.NOTIFY_ENUM_DIR]
    assert (engine.window.standing, engine.window.capacity) == (0, 8)


def test_with_one_place_left_beside_what_stands_every_request_is_still_served() -> None:
    engine = engine_with(2)
    stand(engine)
    for request in (ECHO, read(100)):
        exchange = engine.submit((request,), bulk=request is not ECHO)
        ((header, _),) = sent_one(engine)
        arrive(engine, response(header, EchoResponse().encode()))
        assert exchange.done


def test_what_stands_is_cancelled_by_the_servers_number_for_it() -> None:
    engine = engine_with(8)
    exchange, request = stand(engine)
    arrive(engine, interim(request, credits=1))
    engine.cancel(exchange)
    ((cancel, _),) = sent_one(engine)
    assert (cancel.command, cancel.message_id, cancel.process_id) == (Command.CANCEL, request.message_id, 99)
    arrive(engine, response(request, REFUSED, status=NtStatus.CANCELLED, credits=0))
    assert statuses(exchange) == [NtStatus.CANCELLED]


def test_a_server_that_takes_back_all_credits_is_left_though_something_stands() -> None:
    engine = engine_with(2)
    _, request = stand(engine)
    arrive(engine, interim(request, credits=0))
    engine.submit((ECHO,))
    ((echo, _),) = sent_one(engine)
    with pytest.raises(ProtocolError, match="taken back all credits"):
        arrive(engine, response(echo, EchoResponse().encode(), credits=0))
