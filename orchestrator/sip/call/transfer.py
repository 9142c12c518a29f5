"""REFER (RFC 3515): asking the peer to call somebody else, and being asked to."""

from __future__ import annotations

import asyncio
import re

from orchestrator.sip.agent.client import Client
from orchestrator.sip.agent.refusals import warning
from orchestrator.sip.call.in_dialog import InDialog
from orchestrator.sip.message.grammar import GrammarError, parse_name_addr
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import NotAcceptable
from orchestrator.sip.transaction.server import ServerTransaction

TRANSFER_SECONDS = 60.0
_REPLACES = re.compile(r"(?i)(?:^|&)replaces=")
_STATUS = re.compile(rb"SIP/2\.0 (\d{3})")


class Transfer:
    """The transfers of one call (REFER), both ways. Only one of ours is open at a time."""

    def __init__(self, client: Client, call: InDialog) -> None:
        self._client = client
        self._call = call
        self._outcome: asyncio.Future[int] | None = None

    async def transfer(self, target: str) -> int:
        """Send the peer to `target` (blind transfer); the final status it reports, 408 for none in time.

        Raises NotAcceptable where the peer refuses to try.
        """
        call = self._call
        if call.state != "established" or self._outcome is not None:
            raise NotAcceptable("the call cannot be transferred now")
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._outcome = outcome
        timer = self._client.clock.call_later(TRANSFER_SECONDS, lambda: self._settle(408))
        try:
            request = call.dialog.request("REFER")
            request.headers.add("Refer-To", f"<{target}>")
            request.headers.add("Referred-By", f"<{call.dialog.local.uri}>")
            response = await self._client.transact(call, request)
            if response.status >= 300:
                raise NotAcceptable(f"the peer answered {response.status} {response.reason}")
            return await outcome
        finally:
            timer.cancel()
            self._outcome = None

    def on_notify(self, transaction: ServerTransaction) -> None:
        """Progress of a REFER of ours; other events were never subscribed to (489)."""
        request = transaction.request
        event = (request.headers.get("Event") or "").partition(";")[0].strip().lower()
        if not event:
            self._call.respond(transaction, 400)
        elif event != "refer":
            self._call.respond(transaction, 489)
        elif self._outcome is None:
            self._call.respond(transaction, 481)
        else:
            self._call.respond(transaction, 200)
            status = _STATUS.match(request.body)
            if status is not None and int(status[1]) >= 200:
                self._settle(int(status[1]))
            elif (request.headers.get("Subscription-State") or "").lower().startswith("terminated"):
                self._settle(int(status[1]) if status else 408)

    def on_refer(self, transaction: ServerTransaction) -> None:
        """The peer asks us to call somebody: the handler decides, NOTIFY tells how it went.

        Attended transfer, which would take over another dialog (RFC 3891), is refused.
        """
        try:
            targets = transaction.request.headers.values("Refer-To")
            target = parse_name_addr(targets[0]).uri if len(targets) == 1 else None
        except GrammarError:
            target = None
        if target is None or not target.is_sip:
            self._call.respond(transaction, 400, "Bad Refer-To")
            return
        if _REPLACES.search(target.headers):
            self._call.respond(transaction, 488, headers=(warning("attended transfer is not supported"),))
            return
        self._call.respond(transaction, 202)
        self._call.emit(self._refer, PeerText(str(target.without_headers())))

    def abandon(self) -> None:
        self._settle(487)

    async def _refer(self, target: PeerText) -> None:
        self._notify("100 Trying", "active;expires=60")
        accepted = await self._call.handler.on_transfer(self._call, target)
        self._notify("200 OK" if accepted else "603 Decline", "terminated;reason=noresource")

    def _notify(self, status: str, state: str) -> None:
        if self._call.state == "ended":
            return
        request = self._call.dialog.request("NOTIFY")
        request.headers.add("Event", "refer")
        request.headers.add("Subscription-State", state)
        request.headers.add("Content-Type", "message/sipfrag;version=2.0")
        request.body = f"SIP/2.0 {status}\r\n".encode()
        self._client.send(self._call, request)

    def _settle(self, status: int) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(status)
