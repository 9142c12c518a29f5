"""Calls by SIP: what the SIP stack tells goes to the registry and its calls, what they want goes to the stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, cast

from orchestrator.calls.call import CallGone
from orchestrator.calls.gateway import CallEnd, DialOrder, DialRefused, RefusedInvitation, RequestRefused
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import Settings
from orchestrator.gateways.sip_media import agreement, capabilities, offers_video
from orchestrator.gateways.sip_settings import sip_config
from orchestrator.sip.call.call import Call as SipCall
from orchestrator.sip.call.events import EndCause, RefusedCall
from orchestrator.sip.call.in_dialog import CallEnded
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.handler import BaseHandler
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SessionDescription
from orchestrator.sip.stack import SipStack, dialled_uri
from orchestrator.sip.transport.trace import Trace
from orchestrator.worker.messages import CallOpened
from orchestrator.worker.pool import NoRoom
from visavis.service.supervisor import Supervisor

RETRY_AFTER = 10


class SipSignalling:
    """Implements :class:`orchestrator.calls.gateway.Signalling` with one call of the SIP stack."""

    def __init__(
        self, settings: Settings, registry: CallRegistry, sip: SipCall, ports: CallOpened | None = None
    ) -> None:
        self.sip = sip
        self.established = False
        """Whether the call's first agreement is confirmed: the address in it stays."""
        self._settings = settings
        self._registry = registry
        self._ports = ports
        self._fps: Fraction | None = None

    @property
    def direction(self) -> Literal["in", "out"]:
        return cast(Literal["in", "out"], self.sip.direction)

    @property
    def caller(self) -> str:
        return self.sip.remote_uri

    @property
    def dialled(self) -> str:
        return self.sip.user

    @property
    def source(self) -> str:
        return self.sip.source[0]

    @property
    def account(self) -> str:
        return self.sip.account

    @property
    def ended(self) -> CallEnd | None:
        if self.sip.state != "ended":
            return None
        return self.end(self.sip.cause or EndCause("cancelled", "peer"))

    @property
    def trace(self) -> Trace | None:
        return self.sip.trace

    def start_trace(self) -> None:
        self.sip.start_trace()

    def hang_up(self, reason: str) -> None:
        self.sip.hangup(reason)

    async def press(self, digits: str, milliseconds: int) -> None:
        """By INFO."""
        try:
            await self.sip.press(digits, milliseconds)
        except NotAcceptable as error:
            raise RequestRefused(str(error)) from None
        except CallEnded as error:
            raise CallGone(str(error)) from None

    async def transfer(self, to: str) -> int:
        """By REFER; a bare user or number is one of the account's server."""
        host = self.account.rpartition("@")[2].partition(";")[0]
        try:
            return await self.sip.transfer(str(dialled_uri(to, host)))
        except (NotAcceptable, ValueError) as error:
            raise RequestRefused(str(error)) from None
        except CallEnded as error:
            raise CallGone(str(error)) from None

    # -- what the gateway needs --

    def capabilities(self) -> MediaCapabilities:
        """What the call can do now."""
        assert self._ports is not None
        host = self.sip.capabilities.address if self.established else self.sip.local_host
        return capabilities(self._settings, self._ports, host, self.account)

    def agreed(self, media: NegotiatedMedia) -> None:
        """Tell the call what was negotiated; the body's frame rate stays that of the first time."""
        call = self._registry.under_way(self.sip.id)
        if call is None:
            return
        made = agreement(self._settings, media, self.sip.signalling_hosts, self.account, self._fps)
        if made is not None:
            self._fps = made.fps
        call.on_media(made)

    def end(self, cause: EndCause) -> CallEnd:
        """Why the call ended, and what its record keeps of SIP."""
        kept = _kept(PeerText(self.sip.sip_call_id), cause.kind, cause.status)
        return CallEnd(cause.kind, cast(Literal["peer", "us"], cause.by), cause.status, cause.text, kept)


class SipInvitation(SipSignalling):
    """Implements :class:`orchestrator.calls.gateway.Invitation` with a call that came in."""

    def __init__(self, settings: Settings, registry: CallRegistry, sip: IncomingCall) -> None:
        super().__init__(settings, registry, sip)
        self._incoming = sip

    def answer(self, ports: CallOpened) -> None:
        """Raises NotAcceptable, CallEnded."""
        self._ports = ports
        media = self._incoming.answer(self.capabilities())
        if media is not None:
            self.agreed(media)


class SipGateway(BaseHandler):
    """Implements :class:`orchestrator.calls.gateway.Gateway`, and the stack's handler."""

    def __init__(
        self, settings: Settings, registry: CallRegistry, supervisor: Supervisor | None = None
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._stack = SipStack(sip_config(settings), self, supervisor)
        self._calls: dict[str, SipSignalling] = {}

    # -- as a gateway --

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """By transport: "UDP", "TCP", "TLS"."""
        bound = self._stack.addresses.items()
        return {name: [f"{host}:{port}" for host, port, *_ in each] for name, each in bound}

    async def start(self) -> None:
        """Raises ``OSError`` in one sentence where an address cannot be had."""
        await self._stack.start()

    def dial(self, call_id: str, order: DialOrder, ports: CallOpened) -> SipSignalling:
        """Raises :class:`DialRefused`."""
        accounts = self._settings.sip_accounts
        account = order.account or (accounts[0].uri if accounts else "")
        offer = capabilities(self._settings, ports, self._settings.advertised_address, account)
        try:
            sip = self._stack.dial(order.to, offer, account=account, call_id=call_id)
        except ValueError as error:
            raise DialRefused(str(error)) from None
        signalling = self._calls[call_id] = SipSignalling(self._settings, self._registry, sip, ports)
        return signalling

    def trace_calls(self, calls: int) -> None:
        self._stack.trace_calls(calls)

    def drain(self) -> None:
        """New calls are answered 503."""
        self._stack.drain()

    async def close(self) -> None:
        """Take back registrations, hang up what is left, close the sockets."""
        await self._stack.close()

    # -- as the stack's handler --

    async def on_invite(self, call: IncomingCall) -> None:
        """Answered by the registry, where there is room."""
        invitation = self._calls[call.id] = SipInvitation(self._settings, self._registry, call)
        try:
            await self._registry.accept(call.id, invitation, video=offers_video(call.offer))
        except NoRoom as error:
            self._calls.pop(call.id, None)
            call.turn_away(error.told, RETRY_AFTER)
            caller, called, source = call.remote_uri, call.user, call.source[0]
            kept = _kept(PeerText(call.sip_call_id), "rejected", 503)
            refusal = RefusedInvitation(
                call.id, caller, called, source, call.account, "no_room", str(error), kept
            )
            self._registry.refuse(refusal)

    async def on_refused(self, call: RefusedCall) -> None:
        """There is no room, or none any more."""
        kept = _kept(call.sip_call_id, "rejected", 503)
        who = call.caller, call.user, call.source, call.account
        self._registry.refuse(RefusedInvitation(call.id, *who, call.cause, call.text, kept))

    async def on_progress(self, call: SipCall, status: int) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_ringing(status)

    async def on_media(self, call: SipCall, media: NegotiatedMedia) -> None:
        if signalling := self._calls.get(call.id):
            signalling.agreed(media)

    async def on_established(self, call: SipCall) -> None:
        """Acknowledged: whoever called is there."""
        if (signalling := self._calls.get(call.id)) and (ours := self._registry.under_way(call.id)):
            ours.on_established()
            signalling.established = ours.answered_at is not None

    async def on_reoffer(self, call: SipCall, offer: SessionDescription) -> MediaCapabilities:
        """What we can do now: the same, with video where it is offered."""
        return self._calls[call.id].capabilities()

    async def on_keyframe_request(self, call: SipCall) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_keyframe_request()

    async def on_dtmf(self, call: SipCall, digit: str, duration: int) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_dtmf(digit)

    async def on_ended(self, call: SipCall, cause: EndCause) -> None:
        if signalling := self._calls.pop(call.id, None):
            await self._registry.end(call.id, signalling.end(cause))


def _kept(sip_call_id: str, kind: str, status: int) -> dict[str, Any]:
    """What a record keeps of SIP."""
    return {"sip_call_id": sip_call_id, "sip_cause": kind, "sip_status": status}
