"""What says that a request was asked before: the channel sequence and the flag of a replay."""

from smbfuse.engine.smb2_exchange import Request
from smbfuse.wire.smb2.create import CloseRequest
from smbfuse.wire.smb2.header import Command, HeaderFlags
from tests.engine.test_smb2 import CREATE, FILE_ID, engine_with, sent_one

WRITE = Request(Command.WRITE, b"write: the engine does not look inside")
CLOSE = Request(Command.CLOSE, CloseRequest(0, FILE_ID).encode())


def test_every_request_tells_the_channel_sequence() -> None:
    engine = engine_with(8)
    engine.channel_sequence = 0xFFFE
    engine.submit((CREATE, CLOSE))
    assert [header.status for header, _ in sent_one(engine)] == [0xFFFE, 0xFFFE]
    engine.submit((WRITE,))
    ((header, _),) = sent_one(engine)
    assert header.status == 0xFFFE
    assert not header.flags & HeaderFlags.REPLAY_OPERATION


def test_a_new_connection_begins_with_sequence_zero() -> None:
    engine = engine_with(8)
    engine.submit((WRITE,))
    ((header, _),) = sent_one(engine)
    assert header.status == 0


def test_a_replayed_request_says_so_and_no_other_of_its_compound() -> None:
    engine = engine_with(8)
    engine.submit((CREATE._replace(replay=True), CLOSE))
    flags = [header.flags for header, _ in sent_one(engine)]
    assert flags == [HeaderFlags.REPLAY_OPERATION, HeaderFlags.RELATED_OPERATIONS]
