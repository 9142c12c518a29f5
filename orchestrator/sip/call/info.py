"""INFO within a call: key frames asked for (RFC 5168) and keys relayed, both ways."""

from __future__ import annotations

from orchestrator.sip.agent.client import Client
from orchestrator.sip.call.in_dialog import InDialog
from orchestrator.sip.message.bodies import DTMF_RELAY, read_dtmf, relay_dtmf, wants_keyframe
from orchestrator.sip.sdp.capabilities import NotAcceptable
from orchestrator.sip.transaction.server import ServerTransaction


class Info:
    """The INFO requests of one call: key frames and keys."""

    def __init__(self, client: Client, call: InDialog) -> None:
        self._client = client
        self._call = call

    def on_info(self, transaction: ServerTransaction) -> None:
        """Answer, then tell the handler."""
        call, request = self._call, transaction.request
        call.respond(transaction, 200)
        if wants_keyframe(request):
            call.emit(call.handler.on_keyframe_request, call)
        elif (key := read_dtmf(request)) is not None:
            call.emit(call.handler.on_dtmf, call, key.digit, key.duration)

    async def press(self, digits: str, milliseconds: int) -> None:
        """Relay keys one by one. Raises NotAcceptable where the peer takes none."""
        for digit in digits:
            request = self._call.dialog.request("INFO")
            request.headers.add("Content-Type", DTMF_RELAY)
            request.body = relay_dtmf(digit, milliseconds)
            response = await self._client.transact(self._call, request)
            if response.status >= 300:
                raise NotAcceptable(
                    f"the peer takes no keys: it answered {response.status} {response.reason}"
                )
