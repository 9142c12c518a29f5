"""Calls by SIP: what the SIP stack tells goes to the registry and its calls, what they want goes to the stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal, cast

from orchestrator.calls.call import CallGone
from orchestrator.calls.dial_plan import is_number
from orchestrator.calls.gateway import CallEnd, DialOrder, DialRefused, RefusedInvitation, RequestRefused
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import Settings
from orchestrator.gateways.sip_media import agreement, capabilities, offers_video
from orchestrator.gateways.sip_settings import sip_config
from orchestrator.sip.call.call import Call as SipCall
from orchestrator.sip.call.events import EndCause, RefusedCall
from orchestrator.sip.call.in_dialog import CallEnded
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.handler import BaseHandler
from orchestrator.sip.message.grammar import parse_uri
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SessionDescription
from orchestrator.sip.stack import SipStack, dialled_uri
from orchestrator.sip.transport.trace import Trace
from orchestrator.worker.messages import CallOpened
from orchestrator.worker.pool import NoRoom
from visavis.service.logs import Log
from visavis.service.supervisor import Supervisor

log = Log(__name__)

RETRY_AFTER = 10


class SipSignalling:
    """Implements :class:`orchestrator.calls.gateway.Signalling` with one call of the SIP stack."""

    def __init__(
        self,
        settings: Settings,
        registry: CallRegistry,
        sip: SipCall,
        ports: CallOpened | None = None,
        *,
        video: bool = True,
    ) -> None:
        self.sip = sip
        self.established = False
        """Whether the call's first agreement is confirmed: the address in it stays."""
        self._settings = settings
        self._registry = registry
        self._ports = ports
        self._fps: Fraction | None = None
        self._shown = video  # whether the call may have a picture
        self._opening = asyncio.Lock()

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
        try:
            target = str(dialled_uri(to, _host_of(self.account)))
        except ValueError as error:
            raise RequestRefused(str(error)) from None
        self._registry.dial_plan.attempt(target, time.monotonic())
        try:
            return await self.sip.transfer(target)
        except NotAcceptable as error:
            raise RequestRefused(str(error)) from None
        except CallEnded as error:
            raise CallGone(str(error)) from None

    async def show(self, shown: bool) -> None:
        """By re-INVITE."""
        if shown == self._pictured:
            self._shown = shown
            return
        before, self._shown = self._shown, shown
        try:
            self.agreed(await self.sip.reoffer(await self.invited() if shown else self.capabilities()))
        except NotAcceptable as error:
            self._shown = before
            self.unchanged()
            raise RequestRefused(str(error)) from None
        except CallEnded as error:
            raise CallGone(str(error)) from None
        if shown and not self._pictured:
            raise RequestRefused("the phone takes no picture")

    # -- what the gateway needs --

    async def invited(self, offer: SessionDescription | None = None) -> MediaCapabilities:
        """What the call can do where the peer makes this offer, or asks for ours: a picture is made room for."""
        async with self._opening:
            if (
                self._ports is not None
                and self._ports.video_port is None
                and offers_video(offer)
                and self._shown
            ):
                port = await self._registry.open_video(self.sip.id)
                self._ports = replace(self._ports, video_port=port)
        return self.capabilities(offer)

    def unchanged(self) -> None:
        """Nothing came of an offer: what was opened for it is closed."""
        if self._ports is None or self._ports.video_port is None:
            return
        if not self._pictured and not self.sip.offer_open:
            self._registry.close_video(self.sip.id)
            self._ports = replace(self._ports, video_port=None)

    @property
    def _pictured(self) -> bool:
        """Whether a picture is agreed."""
        return self.sip.media is not None and self.sip.media.video is not None

    def capabilities(self, offer: SessionDescription | None = None) -> MediaCapabilities:
        """What the call can do now, also when the peer offers anew."""
        assert self._ports is not None
        host = self.sip.capabilities.address if self.established else self.sip.local_host
        ports = self._ports if self._shown else replace(self._ports, video_port=None)
        return capabilities(self._settings, ports, host, self.account)

    def agreed(self, media: NegotiatedMedia) -> None:
        """Tell the call what was negotiated; the body's frame rate stays that of the first time."""
        call = self._registry.under_way(self.sip.id)
        if call is None:
            return
        made = agreement(self._settings, media, self.sip.signalling_hosts, self.account, self._fps)
        if made is not None:
            self._fps = made.fps
            if made.video is None and self._ports is not None:
                self._ports = replace(self._ports, video_port=None)  # its media worker closes it
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

    bundled = False
    """Whether the media of its calls share one transport."""

    def __init__(
        self,
        settings: Settings,
        registry: CallRegistry,
        supervisor: Supervisor | None = None,
        config: SipConfig | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._stack = SipStack(config or sip_config(settings), self, supervisor)
        self._calls: dict[str, SipSignalling] = {}

    # -- as a gateway --

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """By transport: "UDP", "TCP", "TLS"."""
        bound = self._stack.addresses.items()
        return {name: [f"{host}:{port}" for host, port, *_ in each] for name, each in bound}

    async def start(self) -> None:
        """Raises ``OSError`` in one sentence where an address cannot be had."""
        try:
            await self._stack.start()
        except OSError as error:
            raise OSError(f"{error}: choose another VISAVIS_SIP_PORT or VISAVIS_SIP_TLS_PORT") from error

    def dial(self, call_id: str, order: DialOrder, ports: CallOpened) -> SipSignalling:
        """Raises :class:`DialRefused`."""
        accounts = self._settings.sip_accounts
        account = order.account or (accounts[0].uri if accounts else "")
        offer = capabilities(self._settings, ports, self._settings.advertised_address, account)
        try:
            target = str(dialled_uri(order.to, _host_of(account)))
            self._registry.dial_plan.place(call_id, target, time.monotonic())
            sip = self._stack.dial(target, offer, account=account, call_id=call_id)
        except DialRefused:
            raise
        except ValueError as error:
            raise DialRefused(str(error)) from None
        signalling = self._calls[call_id] = SipSignalling(
            self._settings, self._registry, sip, ports, video=order.video
        )
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
        invitation = self._calls[call.id] = self._invitation(call)
        try:
            video = offers_video(call.offer)
            await self._registry.accept(call.id, invitation, video=video, bundle=self.bundled)
        except NoRoom as error:
            self._calls.pop(call.id, None)
            call.turn_away(error.told, RETRY_AFTER)
            caller, called, source = call.remote_uri, call.user, call.source[0]
            kept = _kept(PeerText(call.sip_call_id), "rejected", 503)
            refusal = RefusedInvitation(
                call.id, caller, called, source, call.account, "no_room", str(error), kept
            )
            self._registry.refuse(refusal)

    def _invitation(self, call: IncomingCall) -> SipInvitation:
        return SipInvitation(self._settings, self._registry, call)

    async def on_refused(self, call: RefusedCall) -> None:
        """There is no room, or none any more."""
        kept = _kept(call.sip_call_id, "rejected", 503)
        who = call.caller, call.user, call.source, call.account
        self._registry.refuse(RefusedInvitation(call.id, *who, call.cause, call.text, kept))

    async def on_progress(self, call: SipCall, status: int) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_ringing(status)

    async def on_redirect(self, call: SipCall, target: PeerText) -> bool:
        """To where the dial plan allows; to another server, or a number, only where a rule of it says so."""
        here = {parse_uri(call.remote_uri).bare_host, _host_of(call.account)}
        uri = parse_uri(target)
        of_peer = uri.bare_host not in here or is_number(uri.decoded_user)
        try:
            self._registry.dial_plan.attempt(target, time.monotonic(), of_peer=of_peer)
        except DialRefused as error:
            log.warning("redirect_refused", call=call.id, reason=error)
            return False
        return True

    async def on_media(self, call: SipCall, media: NegotiatedMedia) -> None:
        if signalling := self._calls.get(call.id):
            signalling.agreed(media)

    async def on_established(self, call: SipCall) -> None:
        """Acknowledged: whoever called is there."""
        if (signalling := self._calls.get(call.id)) and (ours := self._registry.under_way(call.id)):
            ours.on_established()
            self._registry.dial_plan.answered(call.id, time.monotonic())
            signalling.established = ours.answered_at is not None

    async def on_reoffer(self, call: SipCall, offer: SessionDescription | None) -> MediaCapabilities:
        """What we can do now: the same, with video where it is offered or may be."""
        return await self._calls[call.id].invited(offer)

    async def on_reoffer_failed(self, call: SipCall) -> None:
        if signalling := self._calls.get(call.id):
            signalling.unchanged()

    async def on_keyframe_request(self, call: SipCall) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_keyframe_request()

    async def on_dtmf(self, call: SipCall, digit: str, duration: int) -> None:
        if ours := self._registry.under_way(call.id):
            ours.on_dtmf(digit)

    async def on_ended(self, call: SipCall, cause: EndCause) -> None:
        if signalling := self._calls.pop(call.id, None):
            await self._registry.end(call.id, signalling.end(cause))


def _host_of(account: str) -> str:
    """The server of an account, by its address of record; "" for no account."""
    return account.rpartition("@")[2].partition(";")[0]


def _kept(sip_call_id: str, kind: str, status: int) -> dict[str, Any]:
    """What a record keeps of SIP."""
    return {"sip_call_id": sip_call_id, "sip_cause": kind, "sip_status": status}
