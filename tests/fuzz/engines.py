"""Targets above the wire: whole streams of a server's bytes into the engines, and its tokens into a login.

An engine is given requests, and then the stream: whatever that holds, it must end with every exchange finished, with a
window that still counts, and with nothing raised but ProtocolError.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from smbfuse.client.smb1_oplocks import Oplocks
from smbfuse.client.smb2_grants import Smb2Grants
from smbfuse.config import Login, Sec, Secret
from smbfuse.engine.dialect import Cipher, SigningAlgorithm
from smbfuse.engine.exchange import Exchange
from smbfuse.engine.protect import Smb1Protection, Smb2Protection
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb1_exchange import Tree
from smbfuse.engine.smb2 import Smb2Engine
from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange
from smbfuse.errors import AuthenticationFailed, ConnectionLost, ProtocolError, SecurityRefused
from smbfuse.security.login import begin_login
from smbfuse.security.signing import Md5Mac
from smbfuse.share import Caching
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.smb1 import control, files, io, trans2, write
from smbfuse.wire.smb1.header import SIGNATURE_OFFSET, UNSOLICITED_MID, Flags, decode_header
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.header import Header as Header1
from smbfuse.wire.smb1.message import UNICODE, encode_message
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest
from smbfuse.wire.smb2 import breaks, create, info
from smbfuse.wire.smb2 import io as io2
from smbfuse.wire.smb2.control import EchoResponse
from smbfuse.wire.smb2.header import (
    RELATED_FILE_ID,
    UNSOLICITED,
    Command,
    Header,
    HeaderFlags,
    join_compound,
    split_compound,
)
from smbfuse.wire.smb2.lease import LEASE, LeaseV2
from tests.fuzz.decoders import Target
from tests.support.server_protection import ServerProtection

if TYPE_CHECKING:
    from smbfuse.client.connection import Connection
    from smbfuse.client.smb2_tree import Smb2Tree

SESSION_KEY: Final = bytes(range(16))
DIALECT: Final = 0x0311
SESSION_ID: Final = 0x1122334455667788
_MOST_ROUNDS: Final = 16  # of asking and answering, until a dialogue is over
_LOGIN_SHARE: Final = 0.02  # NTLM is another's code and slow: a token takes a millisecond

# A session that the server has forgotten cannot be signed for; whoever forges that could cut the connection as well.
_BELIEVED_UNSIGNED: Final = frozenset({NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED})

Engine = Smb1Engine | Smb2Engine
Answer = Callable[[memoryview], Sequence[bytes]]


def targets() -> list[Target]:
    """Return the engines, in the states that treat a server's bytes differently, and the logins."""
    found = []
    for name, (make, answer) in _ENGINES.items():
        dialogue, honest = _dialogue(make, answer())
        seeds = (dialogue, *(dialogue[at:] + dialogue[:at] for at in _boundaries(dialogue)))
        found.append(Target(f"engine.{name}", _Feeder(make, honest), seeds, errors=()))
    errors = (AuthenticationFailed, ProtocolError, SecurityRefused)
    found += [
        Target("login.first_token", _first_token, (_SPNEGO_HINT, _CHALLENGE), errors=errors, share=_LOGIN_SHARE),
        Target("login.challenge", _challenge, (_CHALLENGE, _SPNEGO_CHALLENGE), errors=errors, share=_LOGIN_SHARE),
        Target("login.anonymous", _anonymous, (_CHALLENGE,), errors=errors),
    ]
    return found


class _Feeder:
    """Gives a stream to a new engine, as a connection does.

    An engine that verifies may believe nothing but the `honest` replies, whatever became of the bytes.
    """

    def __init__(self, make: Callable[[], Engine], honest: frozenset[bytes]) -> None:
        self._make = make
        self._honest = honest

    def __call__(self, stream: bytes) -> None:
        engine = self._make()
        exchanges = _submit(engine)
        engine.outgoing()
        error: ProtocolError | ConnectionLost = ConnectionLost("the stream is over", sent=True)
        try:
            for pdu in _packets(stream):
                engine.owner(pdu[:64])
                engine.arrived(pdu)
                engine.outgoing()
        except ProtocolError as broken:
            error = broken
        window = engine.window
        assert window.available >= 0, f"{window}"
        assert window.taken >= 0, f"{window}"
        engine.lost(error)
        for exchange in exchanges:
            assert exchange.done, f"{exchange!r} has no end"
            assert exchange.error is not None or exchange.replies, f"{exchange!r} ended with nothing"
            for reply in exchange.replies if engine.protection is not None else ():
                believed = _bytes_of(reply) in self._honest or reply.status in _BELIEVED_UNSIGNED
                assert believed, f"{exchange!r} took a forged reply"
        assert engine.statistics().in_flight == engine.statistics().queued == 0


def _packets(stream: bytes) -> Iterator[memoryview]:
    """Yield the session messages of a stream; what is cut short at its end never arrives."""
    at = 0
    while at + nbss.HEADER_SIZE <= len(stream):
        _kind, length = nbss.decode_header(stream[at : at + nbss.HEADER_SIZE])
        at += nbss.HEADER_SIZE
        if at + length > len(stream):
            return
        yield memoryview(bytearray(stream[at : at + length]))
        at += length


def _boundaries(stream: bytes) -> Iterator[int]:
    """Yield where the packets of a stream end, but for the last."""
    at = 0
    for pdu in list(_packets(stream))[:-1]:
        at += nbss.HEADER_SIZE + len(pdu)
        yield at


def _dialogue(make: Callable[[], Engine], answer: Answer) -> tuple[bytes, frozenset[bytes]]:
    """Return all that an ordinary server says to the requests of `_submit`, and what reaches those who asked."""
    engine = make()
    exchanges = _submit(engine)
    stream = b""
    for _ in range(_MOST_ROUNDS):
        for pdu in engine.outgoing():
            for reply in answer(memoryview(b"".join(pdu))[nbss.HEADER_SIZE :]):
                stream += nbss.frame(len(reply)) + reply
                engine.arrived(memoryview(bytearray(reply)))
        notice = _break_notice(engine)
        if notice not in stream and all(exchange.done for exchange in exchanges):
            stream += nbss.frame(len(notice)) + notice
            engine.arrived(memoryview(bytearray(notice)))
    assert all(exchange.done and exchange.error is None for exchange in exchanges), exchanges
    return stream, frozenset(_bytes_of(reply) for exchange in exchanges for reply in exchange.replies)


def _break_notice(engine: Engine) -> bytes:
    """Return the message with which a server takes back what it granted."""
    if isinstance(engine, Smb2Engine):
        return Header(Command.OPLOCK_BREAK, UNSOLICITED, flags=HeaderFlags.SERVER_TO_REDIR).encode() + _BREAK
    unsolicited = Header1(Command1.LOCKING_ANDX, 0, 0, 0, 0xFFFF, bytes(8), 1, 0xFFFF, 0, UNSOLICITED_MID)
    return bytes(encode_message(unsolicited, (_SMB1_BREAK,), UNICODE))


def _bytes_of(reply: Any) -> bytes:
    """Return what a reply was made of; of a transaction what its parts are together, in whatever order they came."""
    if hasattr(reply, "element"):
        return bytes(reply.element)
    return bytes(reply.parameters) + bytes(reply.data) or bytes(reply.block.pdu)


def _submit(engine: Engine) -> list[Exchange[Any]]:
    exchanges: list[Exchange[Any]] = [engine.ping()]
    if isinstance(engine, Smb2Engine):
        exchanges += [engine.submit(requests, bulk=bulk) for requests, bulk in _SMB2_REQUESTS]
        exchanges.append(_Caching(engine).open())
        return exchanges
    _Keeping(engine)
    exchanges += [engine.submit(chain) for chain in _SMB1_CHAINS]
    exchanges.append(engine.submit((write.Write(5, 0, 8),), payload=(b"some", memoryview(b"data")), moves=8))
    exchanges.append(engine.transact(_FIND_FIRST, tree=Tree(1, 0)))
    return exchanges


# --- SMB2 -------------------------------------------------------------------------------------------------------------


class _Caching:
    """Somebody who opens a file with a lease and keeps it, and gives up what a break takes back."""

    key = b"the key of a lea"

    def __init__(self, engine: Smb2Engine) -> None:
        self.folders: dict[str, bytes] = {}
        self._engine = engine
        self._grants = Smb2Grants(2, directories=True)
        engine.on_break = self._grants.broke
        engine.on_lost = self._grants.lost

    def open(self) -> Smb2Exchange:
        asking = self._grants.ask(cast("Smb2Tree", self), "größe", self, Caching.READ | Caching.HANDLE)
        assert asking is not None
        request = create.CreateRequest(0, 0xFF, 2, 0, 0x81, 0, 7, 1, 0, "größe", asking.contexts)
        exchange = self._engine.submit((Request(Command.CREATE, request.encode()),))

        def opened(reply: Reply) -> None:
            asking.answered(reply)
            self._grants.delivered(_FILE_ID)

        exchange.on_first_reply = opened
        return exchange

    def submit(self, request: Request, *, urgent: bool) -> Smb2Exchange:
        return self._engine.submit((request,), urgent=urgent)

    def folder_key(self, path: str) -> bytes:
        return b""

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self._grants.acknowledge(_FILE_ID, remaining)

    def lost(self) -> None:
        assert self._grants.caching(_FILE_ID) is Caching.NONE

    def regained(self) -> None:
        """Hear of nothing: nothing is opened again here."""


_FILE_ID: Final = bytes(range(16))
_LEASE: Final = create.CreateContext(LEASE, LeaseV2(_Caching.key, 3, epoch=1).encode())
_BREAK: Final = breaks.LeaseBreak(2, 1, _Caching.key, 3, 1, 0, 0, 0).encode()
_OPEN: Final = create.CreateRequest(0, 0, 2, 0, 0x81, 0, 7, 1, 0, "größe").encode()
_PAGE: Final = info.QueryDirectoryRequest(37, 0, 0, RELATED_FILE_ID, "*", 65536).encode()
_SMB2_REQUESTS: Final[Sequence[tuple[Sequence[Request], bool]]] = (
    ((Request(Command.CREATE, _OPEN), Request(Command.READ, io2.encode_read(RELATED_FILE_ID, 0, 4096), 4096)), False),
    (
        (
            Request(Command.CREATE, _OPEN),
            Request(Command.QUERY_DIRECTORY, _PAGE, 65536),
            Request(Command.CLOSE, create.CloseRequest(0, RELATED_FILE_ID).encode()),
        ),
        False,
    ),
    ((Request(Command.READ, io2.encode_read(_FILE_ID, 0, 1 << 20), 1 << 20),), True),
    ((Request(Command.WRITE, io2.encode_write(_FILE_ID, 0, 8), 8, (b"some", memoryview(b"data"))),), True),
)
_SMB2_ANSWERS: Final = {
    Command.ECHO: EchoResponse().encode(),
    Command.CREATE: create.CreateResponse(0xFF, 0, 1, 0, 0, 0, 0, 4096, 5, 0x20, _FILE_ID, (_LEASE,)).encode(),
    Command.WRITE: io2.WriteResponse(8, 0, b"").encode(),
    Command.OPLOCK_BREAK: breaks.LeaseBreakAcknowledgment(0, _Caching.key, 1).encode(),
    Command.READ: io2.ReadResponse(b"data", 0, 0).encode(),
    Command.QUERY_DIRECTORY: info.QueryDirectoryResponse(memoryview(bytes(72))).encode(),
    Command.CLOSE: create.CloseResponse(0, 0, 0, 0, 0, 0, 0, 0).encode(),
}


def _smb2(*, compounds: bool = True, sign: bool = False, seal: bool = False) -> Smb2Engine:
    engine = Smb2Engine(max_credits=64)
    engine.window.granted(39)
    engine.adopt(multi_credit=True)
    engine.compounds.enabled = compounds
    engine.session_id = SESSION_ID
    if sign or seal:
        engine.protect(
            Smb2Protection(
                DIALECT,
                SESSION_KEY,
                signing_id=SigningAlgorithm.AES_GMAC,
                cipher_id=Cipher.AES_128_GCM if seal else None,
                sign=sign,
                seal=seal,
            )
        )
    return engine


def _answer_smb2(protection: ServerProtection | None, request: memoryview, *, seal: bool) -> list[bytes]:
    if seal and protection is not None:
        request = memoryview(protection.unseal(bytes(request)))
    elements = []
    for header, _element in split_compound(request):
        answer = Header(
            header.command,
            header.message_id,
            credits=8,
            flags=HeaderFlags.SERVER_TO_REDIR,
            tree_id=header.tree_id,
            session_id=header.session_id,
        )
        elements.append(answer.encode() + _SMB2_ANSWERS[Command(header.command)])
    message = join_compound(elements)
    if protection is None:
        return [message]
    if seal:
        return [protection.seal(SESSION_ID, message)]
    signed = b""
    for header, element in split_compound(memoryview(message)):
        part = bytearray(element)
        protection.sign(part, header.message_id)
        signed += part
    return [signed]


def _server(*, seal: bool = False) -> ServerProtection:
    cipher = Cipher.AES_128_GCM if seal else None
    return ServerProtection(DIALECT, SESSION_KEY, signing_id=SigningAlgorithm.AES_GMAC, cipher_id=cipher)


# --- SMB1 -------------------------------------------------------------------------------------------------------------

_SMB1_CHAINS: Final = (
    (files.OpenAndxRequest(1, 0x40, 0x16, 0, 0, 1, 0, 0, "\\größe"), io.ReadRequest.at(0, 0, 4096)),
    (files.CloseRequest(5, 0),),
)
_SMB1_BREAK: Final = control.LockingRequest(5, control.OPLOCK_RELEASE, control.BREAK_TO_LEVEL_II, 0, 0, 0, b"")
_FIND_FIRST: Final = TransactionRequest(
    Command1.TRANSACTION2,
    (trans2.Subcommand.FIND_FIRST2,),
    trans2.FindFirst2Request(0x16, 100, 6, 0x105, 0, "\\*").encode(UNICODE),
    b"",
    24,
    0,
    10,
    4096,
)
_FOUND: Final = (
    TransactionPart(Command1.TRANSACTION2, 10, 80, trans2.FindFirst2Response(1, 1, 1, 0, 0).encode(), 0, bytes(40), 0),
    TransactionPart(Command1.TRANSACTION2, 10, 80, b"", 10, bytes(40), 40),
)


class _Keeping:
    """Somebody who has a file open with a batch oplock, and gives up what a break takes back."""

    key = b""

    def __init__(self, engine: Smb1Engine) -> None:
        self._oplocks = Oplocks(cast("Connection", self), engine, enabled=True)
        with self._oplocks.opening():
            self._oplock = self._oplocks.opened(Tree(1, 0), 5, self, _EVERYTHING, files.OplockLevel.BATCH)

    def post(self) -> None:
        """Have nothing to do: the feeder asks the engine what is to be sent."""

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self._oplocks.answer(self, remaining)

    def lost(self) -> None:
        assert self._oplock is not None
        assert self._oplock.caching is Caching.NONE

    def regained(self) -> None:
        """Hear of nothing: nothing is opened again here."""


_EVERYTHING: Final = Caching.READ | Caching.WRITE | Caching.HANDLE


def _smb1(*, sign: bool = False) -> Smb1Engine:
    engine = Smb1Engine(pid=7)
    engine.adopt(strings=UNICODE, flags2=0xC001, max_mpx_count=50, max_buffer_size=16644, can_cancel=True)
    engine.login_as(3)
    if sign:
        engine.protect(Smb1Protection(SESSION_KEY))
    return engine


class _Smb1Server:
    """Answers the requests of `_submit`, signed if there is a key."""

    def __init__(self, key: bytes = b"") -> None:
        self._mac = Md5Mac(key) if key else None
        self._sequence = 3

    def __call__(self, request: memoryview) -> list[bytes]:
        header = decode_header(request)
        answers_to: dict[int, Sequence[Sequence[Any]]] = {
            int(Command1.ECHO): [[control.EchoMessage(1, b"smbfuse")]],
            int(Command1.OPEN_ANDX): [
                [files.OpenAndxResponse(5, 0x20, 7, 4, 0, 0, 0, 1), io.ReadResponse(0xFFFF, 0, b"\0", b"data")]
            ],
            int(Command1.CLOSE): [[files.EmptyResponse()]],
            int(Command1.WRITE_ANDX): [[write.WriteResponse(8, 0)]],
            int(Command1.LOCKING_ANDX): [],
            int(Command1.TRANSACTION2): [[part] for part in _FOUND],
        }
        answers = []
        for chain in answers_to[header.command]:
            answer = Header1(
                header.command,
                0,
                Flags.REPLY,
                header.flags2,
                0,
                bytes(8),
                header.tid,
                header.pid_low,
                header.uid,
                header.mid,
            )
            message = encode_message(answer, chain, UNICODE)
            if self._mac is not None:
                signature = slice(SIGNATURE_OFFSET, SIGNATURE_OFFSET + 8)
                message[signature] = self._sequence.to_bytes(8, "little")
                message[signature] = self._mac.signature((message,))
            answers.append(bytes(message))
        self._sequence += 2
        return answers


_ENGINES: Final[dict[str, tuple[Callable[[], Engine], Callable[[], Answer]]]] = {
    "smb1": (_smb1, _Smb1Server),
    "smb1.signed": (functools.partial(_smb1, sign=True), functools.partial(_Smb1Server, SESSION_KEY)),
    "smb2": (_smb2, lambda: functools.partial(_answer_smb2, None, seal=False)),
    "smb2.unrolled": (
        functools.partial(_smb2, compounds=False),
        lambda: functools.partial(_answer_smb2, None, seal=False),
    ),
    "smb2.signed": (
        functools.partial(_smb2, sign=True),
        lambda: functools.partial(_answer_smb2, _server(), seal=False),
    ),
    "smb2.sealed": (
        functools.partial(_smb2, seal=True),
        lambda: functools.partial(_answer_smb2, _server(seal=True), seal=True),
    ),
}


# --- logins -----------------------------------------------------------------------------------------------------------


def _ntlm_challenge() -> bytes:
    """Return a CHALLENGE_MESSAGE of [MS-NLMP] 2.2.1.2 with target information."""
    names = ((1, "SERVER"), (2, "GROUP"), (3, "server.example"))
    information = b"".join(
        kind.to_bytes(2, "little") + (2 * len(name)).to_bytes(2, "little") + name.encode("utf-16-le")
        for kind, name in names
    )
    information += b"\7\0\x08\0" + bytes.fromhex("0000005bdc01dc01") + bytes(4)
    target = "GROUP".encode("utf-16-le")
    flags = 0xE2898215
    head = b"NTLMSSP\0" + (2).to_bytes(4, "little") + _field(len(target), 56) + flags.to_bytes(4, "little")
    head += bytes(range(8)) + bytes(8) + _field(len(information), 56 + len(target)) + b"\x06\x01\0\0\0\0\0\x0f"
    return head + target + information


def _field(length: int, offset: int) -> bytes:
    return length.to_bytes(2, "little") * 2 + offset.to_bytes(4, "little")


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes((length,)) if length < 0x80 else b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + size + content


_NTLMSSP_OID: Final = bytes.fromhex("060a2b06010401823702020a")
_CHALLENGE: Final = _ntlm_challenge()
_SPNEGO_HINT: Final = _der(
    0x60, bytes.fromhex("06062b0601050502") + _der(0xA0, _der(0x30, _der(0xA0, _der(0x30, _NTLMSSP_OID))))
)
_SPNEGO_CHALLENGE: Final = _der(
    0xA1, _der(0x30, _der(0xA0, b"\x0a\1\1") + _der(0xA1, _NTLMSSP_OID) + _der(0xA2, _der(4, _CHALLENGE)))
)
_LOGIN: Final = Login(user="u", domain="GROUP", password=Secret("pässword"))


def _first_token(hint: bytes) -> None:
    begin_login(_LOGIN, host="server", hint=hint).step(b"")


def _challenge(token: bytes) -> None:
    raw = token.startswith(b"NTLMSSP")
    exchange = begin_login(_LOGIN, host="server", hint=b"" if raw else _SPNEGO_HINT)
    exchange.step(b"")
    exchange.step(token)
    exchange.finish(token[: len(token) // 2])


def _anonymous(token: bytes) -> None:
    exchange = begin_login(Login(sec=Sec.NONE), host="server", hint=None)
    exchange.step(b"")
    exchange.step(token)
    exchange.finish(token)
