"""Make the corpus: a few small seeds for each decoder, cut from captures and made by the encoders.

    python -m tests.fuzz.gather CAPTURE.pcap[.gz]...

Run again when a decoder is new, with the captures that `corpus/*.txt` names in its second column. A seed is taken if
the decoder reads it; of the same decoder, seeds differ in length.
"""

import collections
import functools
import gzip
import importlib
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from smbfuse.errors import DecodeError
from smbfuse.wire import nbss
from smbfuse.wire.fscc import FileInformation, VolumeInformation
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.header import Flags2
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import OEM, UNICODE, Strings, decode_message
from smbfuse.wire.smb1.trans2 import Subcommand
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest
from smbfuse.wire.smb2 import create, info
from smbfuse.wire.smb2.control import ControlCode, IoctlRequest, IoctlResponse
from smbfuse.wire.smb2.header import Command, HeaderFlags, split_compound
from smbfuse.wire.smb2.negotiate import ContextType, NegotiateRequest, NegotiateResponse
from tests.fuzz.decoders import CORPUS, Target, targets
from tests.fuzz.golden import golden

MOST_SEEDS: Final = 3  # of one decoder from captures; golden ones come on top
LONGEST_SEED: Final = 640  # bytes

_ETHERNET: Final = 14
_TCP: Final = 6

_SMB2_MESSAGES: Final = {
    Command.NEGOTIATE: "negotiate.Negotiate",
    Command.SESSION_SETUP: "session.SessionSetup",
    Command.LOGOFF: "session.Logoff",
    Command.TREE_CONNECT: "session.TreeConnect",
    Command.TREE_DISCONNECT: "session.TreeDisconnect",
    Command.CREATE: "create.Create",
    Command.CLOSE: "create.Close",
    Command.FLUSH: "io.Flush",
    Command.READ: "io.Read",
    Command.WRITE: "io.Write",
    Command.IOCTL: "control.Ioctl",
    Command.ECHO: "control.Echo",
    Command.CANCEL: "control.Cancel",
    Command.QUERY_DIRECTORY: "info.QueryDirectory",
    Command.CHANGE_NOTIFY: "notify.ChangeNotify",
    Command.QUERY_INFO: "info.QueryInfo",
    Command.SET_INFO: "info.SetInfo",
}
_FILE_CLASSES: Final = {
    FileInformation.BASIC: "FileBasicInformation",
    FileInformation.STANDARD: "FileStandardInformation",
    FileInformation.INTERNAL: "FileInternalInformation",
    FileInformation.ALL: "FileAllInformation",
    FileInformation.NETWORK_OPEN: "FileNetworkOpenInformation",
    FileInformation.ATTRIBUTE_TAG: "FileAttributeTagInformation",
}
_VOLUME_CLASSES: Final = {
    VolumeInformation.VOLUME: "FileFsVolumeInformation",
    VolumeInformation.SIZE: "FileFsSizeInformation",
    VolumeInformation.DEVICE: "FileFsDeviceInformation",
    VolumeInformation.ATTRIBUTE: "FileFsAttributeInformation",
    VolumeInformation.FULL_SIZE: "FileFsFullSizeInformation",
}
_SMB1_FUNCTIONS: Final[dict[int, tuple[str, ...]]] = {
    Command1.OPEN_ANDX: ("smb1.files.decode_open_response",),
    Command1.NT_CREATE_ANDX: ("smb1.files.decode_create_response",),
    Command1.NEGOTIATE: ("smb1.negotiate.decode_negotiate_response",),
    Command1.READ_ANDX: ("smb1.io.decode_read",),
}
_TRANSACTIONS: Final[dict[str, tuple[int, ...]]] = {
    "TransactionRequest": (Command1.TRANSACTION, Command1.TRANSACTION2),
    "TransactionSecondary": (Command1.TRANSACTION_SECONDARY, Command1.TRANSACTION2_SECONDARY),
    "TransactionPart": (Command1.TRANSACTION, Command1.TRANSACTION2, Command1.NT_TRANSACT),
}
_TRANS2: Final = {
    "FIND_FIRST2": "FindFirst2",
    "FIND_NEXT2": "FindNext2",
    "QUERY_PATH_INFORMATION": "QueryPath",
    "QUERY_FILE_INFORMATION": "QueryFile",
    "QUERY_FS_INFORMATION": "QueryFs",
    "SET_FS_INFORMATION": "SetFs",
}
_FIND_LEVELS: Final = {
    FindLevel.INFO_STANDARD: ("smb1.listing.decode_standard_page[UNICODE]", "smb1.listing.decode_standard_page[OEM]"),
    FindLevel.UNIX: ("smb1.listing.decode_unix_page[UNIX]",),
    FindLevel.UNIX_INFO2: ("smb1.listing.decode_unix_page[UNIX_INFO2]",),
    FindLevel.FULL_DIRECTORY_INFO: ("dirlist.decode_page[FULL_DIRECTORY]",),
    FindLevel.ID_FULL_DIRECTORY_INFO: ("dirlist.decode_page[ID_FULL_DIRECTORY]",),
    0x0101: ("dirlist.decode_page[DIRECTORY]",),
    0x0104: ("dirlist.decode_page[BOTH_DIRECTORY]",),
    0x0106: ("dirlist.decode_page[ID_BOTH_DIRECTORY]",),
}
_LEVELS: Final = {  # of paths and files, and of volumes
    0x0001: ("InfoStandard.decode", "InfoAllocation.decode"),
    0x0107: ("QueryFileAllInfo.decode",),
    0x0200: ("UnixBasic.decode", "UnixInfo.decode"),
    0x0201: ("decode_unix_link", "PosixFsInfo.decode"),
    0x020B: ("UnixInfo2.decode",),
}


class Gatherer:
    """Collects seeds, a few of each decoder."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {target.name: target for target in targets()}
        self.seeds: dict[str, dict[int, tuple[str, bytes]]] = collections.defaultdict(dict)

    def offer(self, name: str, data: bytes, origin: str, *, most: int = MOST_SEEDS) -> None:
        """Keep `data` as a seed of `name`, if there is such a decoder, it reads the data, and it has too few."""
        target = self.targets.get(name)
        kept = self.seeds[name] if target is not None else {}
        if target is None or not 0 < len(data) <= LONGEST_SEED or len(kept) >= most or len(data) in kept:
            return
        try:
            target.call(data)
        except DecodeError:
            return
        kept[len(data)] = (origin, data)

    def write(self) -> None:
        """Write one file a module, and say which decoders have no seed."""
        by_module: dict[str, list[str]] = collections.defaultdict(list)
        for name in sorted(self.targets):
            if not self.seeds[name]:
                print(f"no seed: {name}", file=sys.stderr)
            module = ".".join(part for part in name.partition("[")[0].split(".")[:-1] if not part[:1].isupper())
            lines = [f"{name} {origin} {data.hex()}" for origin, data in self.seeds[name].values()]
            by_module[module] += lines
        for module, lines in by_module.items():
            (CORPUS / f"{module}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")


def messages(capture: Path) -> Iterator[bytes]:
    """Yield the session messages of a capture, in order; TCP segments are taken as they come."""
    raw = gzip.decompress(capture.read_bytes()) if capture.suffix == ".gz" else capture.read_bytes()
    streams: dict[bytes, bytearray] = collections.defaultdict(bytearray)
    at = 24
    while at + 16 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 8)
        packet = raw[at + 16 : at + 16 + length]
        at += 16 + length
        ip = packet[_ETHERNET:]
        if len(ip) < 20 or ip[0] >> 4 != 4 or ip[9] != _TCP:
            continue
        tcp = ip[(ip[0] & 0xF) * 4 : int.from_bytes(ip[2:4], "big")]
        stream = streams[ip[12:20] + tcp[:4]]
        stream += tcp[(tcp[12] >> 4) * 4 :]
        while len(stream) >= nbss.HEADER_SIZE:
            kind, size = nbss.decode_header(stream)
            if len(stream) < nbss.HEADER_SIZE + size:
                break
            pdu = bytes(stream[nbss.HEADER_SIZE : nbss.HEADER_SIZE + size])
            del stream[: nbss.HEADER_SIZE + size]
            if kind == nbss.SESSION_MESSAGE:
                yield pdu


def gather_smb2(gatherer: Gatherer, pdus: Iterable[bytes], origin: str) -> None:
    """Offer every element, and what its body holds, to the decoders that read it."""
    asked: dict[int, bytes] = {}
    for pdu in pdus:
        if pdu[:4] == b"\xfdSMB":
            gatherer.offer("smb2.transform.decode", pdu, origin)
            continue
        gatherer.offer("smb2.header.split_compound", pdu, origin)
        gatherer.offer("smb2.header.Header.decode", pdu, origin)
        for header, view in split_compound(memoryview(pdu)):
            element = bytes(view)
            response = bool(header.flags & HeaderFlags.SERVER_TO_REDIR)
            if response and header.status not in (0, 0xC0000016, 0x80000005):
                gatherer.offer("smb2.errors.ErrorResponse.decode", element, origin)
                continue
            message = _SMB2_MESSAGES.get(header.command)  # type: ignore[call-overload]  # an int that is a member
            if message is None:
                continue
            gatherer.offer(f"smb2.{message}{'Response' if response else 'Request'}.decode", element, origin)
            if not response:
                asked[header.message_id] = element
            elif header.message_id in asked:
                _inner_smb2(gatherer, header.command, asked[header.message_id], element, origin)


def _inner_smb2(gatherer: Gatherer, command: int, request: bytes, response: bytes, origin: str) -> None:
    if command == Command.READ:
        gatherer.offer("smb2.io.decode_read", response, origin)
    elif command == Command.NEGOTIATE:
        for context in (*NegotiateRequest.decode(request).contexts, *NegotiateResponse.decode(response).contexts):
            decoder = {
                ContextType.PREAUTH_INTEGRITY_CAPABILITIES: "decode_preauth_integrity",
                ContextType.NETNAME_NEGOTIATE_CONTEXT_ID: "decode_netname",
            }.get(context.context_type, "decode_algorithms")  # type: ignore[call-overload]
            gatherer.offer(f"smb2.negotiate.{decoder}", context.data, origin)
    elif command == Command.CREATE:
        contexts = create.CreateResponse.decode(response).contexts
        gatherer.offer("smb2.create.decode_contexts", create.encode_contexts(contexts), origin)
        for tag, data in contexts:
            kind = {b"QFid": "OnDiskId", b"MxAc": "MaximalAccess"}.get(tag, "")
            gatherer.offer(f"smb2.create.{kind}.decode", data, origin)
    elif command == Command.QUERY_DIRECTORY:
        kind = FileInformation(info.QueryDirectoryRequest.decode(request).file_information_class).name
        page = bytes(info.QueryDirectoryResponse.decode(response).page)
        gatherer.offer(f"dirlist.decode_page[{kind}]", page, origin)
    elif command == Command.QUERY_INFO:
        question, data = info.QueryInfoRequest.decode(request), info.QueryInfoResponse.decode(response).data
        tables = {info.InfoType.FILE: _FILE_CLASSES, info.InfoType.FILESYSTEM: _VOLUME_CLASSES}
        table = tables.get(question.info_type, {})  # type: ignore[call-overload]
        gatherer.offer(f"fscc.{table.get(question.file_info_class, '')}.decode", data, origin)
    elif command == Command.IOCTL:
        if IoctlRequest.decode(request).ctl_code == ControlCode.FSCTL_VALIDATE_NEGOTIATE_INFO:
            for side, part in (
                ("Request", IoctlRequest.decode(request).input),
                ("Response", IoctlResponse.decode(response).output),
            ):
                gatherer.offer(f"smb2.control.ValidateNegotiateInfo{side}.decode", part, origin)
        for name in ("check_bind_ack", "decode_fragment"):
            gatherer.offer(f"srvsvc.{name}", IoctlResponse.decode(response).output, origin)


def gather_smb1(gatherer: Gatherer, pdus: Iterable[bytes], origin: str) -> None:
    """Offer every message, and what its transactions hold, to the decoders that read it."""
    asked: dict[bytes, TransactionRequest] = {}
    for pdu in pdus:
        for name in ("message.decode_message", "message.decode_chain", "header.decode_header"):
            gatherer.offer(f"smb1.{name}", pdu, origin)
        gatherer.offer("smb1.header.Header.decode", pdu[4:32], origin)
        try:
            header, blocks = decode_message(memoryview(pdu))
        except DecodeError:
            continue
        is_reply = header.is_reply
        if header.status or not (blocks[0].words or blocks[0].data):
            continue
        for name in _smb1_decoders(header.command, is_reply=is_reply):
            gatherer.offer(name, pdu, origin)
        if header.command != Command1.TRANSACTION2:
            continue
        strings = UNICODE if header.flags2 & Flags2.UNICODE else OEM
        if not is_reply:
            request = asked[pdu[26:32]] = TransactionRequest.decode_block(blocks[0], strings)
            kind = Subcommand(request.setup[0]).name if request.setup[0] in set(Subcommand) else ""
            gatherer.offer(f"smb1.trans2.{_TRANS2.get(kind, '')}Request.decode", request.parameters, origin)
        elif (question := asked.get(pdu[26:32])) is not None:
            part = TransactionPart.decode_block(blocks[0], strings)
            if part.total_data_count == len(part.data):
                _inner_trans2(gatherer, question, part, strings, origin)


def _smb1_decoders(command: int, *, is_reply: bool) -> Iterator[str]:
    yield from _SMB1_FUNCTIONS.get(command, ()) if is_reply else ()
    for name, (number, cls) in _smb1_classes().items():
        either = not cls.endswith(("Request", "Response"))
        if command in number and (either or cls.endswith("Response") == is_reply):
            yield name


@functools.cache
def _smb1_classes() -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the commands and the class name of every decoder of a whole SMB1 message."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for target in targets():
        if target.name.startswith("smb1.") and target.name.endswith(".decode_block"):
            _, module, cls, _ = target.name.split(".")
            command = getattr(getattr(importlib.import_module(f"smbfuse.wire.smb1.{module}"), cls), "command", None)
            found[target.name] = ((command,) if isinstance(command, int) else _TRANSACTIONS.get(cls, ()), cls)
    return found


def _inner_trans2(
    gatherer: Gatherer, question: TransactionRequest, part: TransactionPart, strings: Strings, origin: str
) -> None:
    parameters, data = bytes(part.parameters), bytes(part.data)
    asked = question.parameters
    match question.setup[0]:
        case Subcommand.FIND_FIRST2:
            level = int.from_bytes(asked[6:8], "little")
            gatherer.offer("smb1.trans2.FindFirst2Response.decode", parameters, origin)
        case Subcommand.FIND_NEXT2:
            level = int.from_bytes(asked[4:6], "little")
            gatherer.offer("smb1.trans2.FindNext2Response.decode", parameters, origin)
        case Subcommand.QUERY_FILE_INFORMATION:
            level = int.from_bytes(asked[2:4], "little")
        case _:
            level = int.from_bytes(asked[:2], "little")
    if question.setup[0] in (Subcommand.FIND_FIRST2, Subcommand.FIND_NEXT2):
        count = parameters[2:3] if question.setup[0] == Subcommand.FIND_FIRST2 else parameters[:1]
        for name in _FIND_LEVELS.get(level, ()):
            gatherer.offer(name, count + data if "standard" in name else data, origin)
        return
    gatherer.offer("smb1.trans2.EaErrorResponse.decode", parameters, origin)
    for name in _LEVELS.get(level, ()):
        gatherer.offer(f"smb1.levels.{name}", data, origin)


def main(captures: Sequence[str]) -> None:
    """Write the corpus anew."""
    gatherer = Gatherer()
    for name, data in golden():
        gatherer.offer(name, data, "encoder", most=2 * MOST_SEEDS)
    for capture in map(Path, captures):
        origin = capture.name.partition(".pcap")[0]
        pdus = list(messages(capture))
        gather_smb1(gatherer, (pdu for pdu in pdus if pdu.startswith(b"\xffSMB")), origin)
        gather_smb2(gatherer, (pdu for pdu in pdus if pdu[1:4] == b"SMB" and pdu[0] in (0xFE, 0xFD)), origin)
    gatherer.write()


if __name__ == "__main__":
    main(sys.argv[1:])
