"""What a relay's record says of SMB2 requests: their channel sequence, what they were answered, what they reclaim."""

from dataclasses import dataclass

from smbfuse.wire.smb2.create import CreateRequest, CreateResponse, find_context
from smbfuse.wire.smb2.durable import DURABLE_RECONNECT, DURABLE_RECONNECT_V2, DurableReconnect, DurableReconnectV2
from smbfuse.wire.smb2.header import Command, HeaderFlags, split_compound
from tests.relay import Relay


@dataclass
class Asked:
    """One request that passed the relay, and what it was answered."""

    sequence: int  # ChannelSequence
    replayed: bool
    element: memoryview
    status: int | None = None
    answer: memoryview | None = None

    @property
    def create(self) -> CreateRequest:
        return CreateRequest.decode(self.element)

    @property
    def created(self) -> CreateResponse:
        assert self.answer is not None
        return CreateResponse.decode(self.answer)


def asked(relay: Relay, command: Command, mark: int = 0) -> list[Asked]:
    """Return the requests of `command` since `mark`, in order."""
    found: dict[tuple[int, int], Asked] = {}
    for pdu in relay.pdus(mark):
        if pdu.data[:4] != b"\xfeSMB":
            continue
        for header, element in split_compound(memoryview(pdu.data)):
            key = (pdu.connection, header.message_id)
            if header.command == command and pdu.to_server:
                found[key] = Asked(header.status, bool(header.flags & HeaderFlags.REPLAY_OPERATION), element)
            elif key in found:
                found[key].status, found[key].answer = header.status, element
    return list(found.values())


def claimed(one: Asked) -> bytes | None:
    """Return the FileId that a CREATE reclaims."""
    contexts = one.create.contexts
    if (data := find_context(contexts, DURABLE_RECONNECT)) is not None:
        return DurableReconnect.decode(data).file_id
    if (data := find_context(contexts, DURABLE_RECONNECT_V2)) is not None:
        return DurableReconnectV2.decode(data).file_id
    return None
