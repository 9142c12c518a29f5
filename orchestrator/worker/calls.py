"""The calls of one worker: what the control process asks of each, and who owns them."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.media.bundle import Event
from orchestrator.media.clock import OTHER, SLOT_SECONDS
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import Hearing
from orchestrator.rtp.ports import PortsExhausted
from orchestrator.worker.host import MediaHost
from orchestrator.worker.inbound import InboundAudio
from orchestrator.worker.messages import (
    CallClosed,
    CallFailed,
    CallFigures,
    CallMessage,
    CallOpened,
    CallRefused,
    CloseCall,
    CloseVideo,
    ConfigureCall,
    DigitsRefused,
    Listen,
    MediaLost,
    MediaSecured,
    Message,
    OpenCall,
    OpenVideo,
    RequestKeyframe,
    SendDigits,
    StartCall,
    ToOwner,
    VideoOpened,
    View,
)
from orchestrator.worker.outbound_video import OutboundVideo
from orchestrator.worker.owner import CallContext, CallFactory, CallOwner, Send
from visavis.service.logs import Log

log = Log(__name__)


@dataclass(slots=True)
class _WorkerCall:
    """What a worker holds of a call; ``owner`` is there once it has started."""

    session: MediaSession
    inbound: InboundAudio
    settings: ConfigureCall | None = None
    owner: CallOwner | None = None


class CallTable:
    """Belongs to the worker's event loop; what fails ends one call, with ``CallFailed``."""

    def __init__(
        self,
        host: MediaHost,
        factory: CallFactory | None,
        send: Send,
        congested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._host = host
        self._congested = congested
        self._factory = factory
        self._send = send
        self._calls: dict[str, _WorkerCall] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, message: Message) -> None:
        """Do what the control process asks; a call that is gone already is no error."""
        if isinstance(message, OpenCall):
            self._open(message)
            return
        if not isinstance(message, CallMessage):
            return
        call = self._calls.get(message.call_id)
        if call is None:
            if isinstance(message, CloseCall):
                self._send(CallClosed(message.call_id, None))
            elif isinstance(message, OpenVideo):
                self._send(VideoOpened(message.call_id, None))
            return
        try:
            self._take(message, call)
        except ValueError as error:
            self._send(CallFailed(message.call_id, str(error)))
        except Exception:
            if isinstance(message, StartCall):
                self._send(CallFailed(message.call_id, "the avatar of this call could not be started"))
            raise

    def _take(self, message: CallMessage, call: _WorkerCall) -> None:
        if isinstance(message, ToOwner):
            if call.owner is not None:
                call.owner.take(message)
            return
        match message:
            case ConfigureCall(_, audio, video, bundle):
                call.session.update(audio, video, bundle)
                call.settings = message
                if call.owner is not None:
                    call.owner.configured(audio, video)
            case StartCall():
                self._start(message, call)
            case OpenVideo():
                self._open_video(message, call)
            case CloseVideo():
                call.session.close_video()
            case RequestKeyframe():
                call.session.request_keyframe()
            case SendDigits():
                self._press(message, call)
            case Listen(_, wanted, always):
                call.inbound.wanted, call.session.audio.always = wanted, wanted and always
            case View(call_id, wanted):
                outbound = OutboundVideo(call_id, self._send, self._congested, call.session.video_start)
                call.session.show(outbound.take if wanted else None)
            case CloseCall(call_id):
                self._end(call_id)

    def _open(self, message: OpenCall) -> None:
        call_id = message.call_id
        if call_id in self._calls:
            self._send(CallRefused(call_id, f"call {call_id} is open already"))
            return
        try:
            bundle = (
                self._host.bundle(functools.partial(self._on_bundle, call_id)) if message.bundle else None
            )
            session = self._host.session(with_video=message.video, bundle=bundle)
        except (PortsExhausted, OSError) as error:
            self._send(CallRefused(call_id, str(error)))
            return
        inbound = InboundAudio(
            call_id,
            lambda: self._hearing(call_id),
            self._send,
            self._congested,
            lambda: session.audio.piece,
            lambda: session.audio.behind,
        )
        self._calls[call_id] = _WorkerCall(session, inbound)
        session.hearing = inbound
        self._send(CallOpened(call_id, session.audio_port, session.video_port))

    def _open_video(self, message: OpenVideo, call: _WorkerCall) -> None:
        port = None
        try:
            port = call.session.open_video()
        except (PortsExhausted, OSError) as error:
            log.warning("video_refused", call=message.call_id, reason=error)
        self._send(VideoOpened(message.call_id, port))

    def _on_bundle(self, call_id: str, event: Event, reason: str) -> None:
        if event != "secured":
            self._send(MediaLost(call_id, event, reason))
            return
        if call_id in self._calls:
            self._calls[call_id].session.request_keyframe()  # what was sent before has not been heard
        self._send(MediaSecured(call_id))

    def _hearing(self, call_id: str) -> Hearing | None:
        owner = self._calls[call_id].owner if call_id in self._calls else None
        return owner.hearing if owner is not None else None

    def _press(self, message: SendDigits, call: _WorkerCall) -> None:
        try:
            call.session.audio.press(message.digits, message.milliseconds)
        except ValueError as error:
            self._send(DigitsRefused(message.call_id, str(error)))

    def _start(self, message: StartCall, call: _WorkerCall) -> None:
        call_id = message.call_id
        if call.settings is None:
            return
        if self._factory is not None and call.owner is None:
            context = CallContext(
                call_id,
                call.settings.audio,
                call.settings.video,
                self._send,
            )
            call.owner = self._factory.open(context, message)
            call.session.perform(call.owner.voice, call.owner.face)
        if message.sends and not call.session.started:
            self._send_media(call)

    def _send_media(self, call: _WorkerCall) -> None:
        """Begin at once, or a little later with the first word."""
        wheel, owner = self._host.clock.wheel, call.owner
        until = wheel.slot + int((owner.patience if owner is not None else 0.0) / SLOT_SECONDS)

        def begin(slot: int, now: float) -> int | None:
            if call.session.started or call.session.stopped:
                return None
            if owner is not None and slot < until and owner.patience:
                return slot + 1
            call.session.start()
            if owner is not None:
                owner.started()
            return None

        if (following := begin(wheel.slot, 0.0)) is not None:
            wheel.add(OTHER, following, begin)

    def _end(self, call_id: str) -> None:
        call = self._calls.pop(call_id)
        stats = call.session.stats(time.monotonic())
        call.session.stop()
        self._send(CallClosed(call_id, stats))
        if call.owner is not None:
            task = asyncio.get_running_loop().create_task(self._dismiss(call.owner))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _dismiss(self, owner: CallOwner) -> None:
        try:
            await owner.close()
        except Exception:
            log.exception("call_close_failed")

    def report(self, now: float) -> None:
        """Send every call's figures."""
        for call_id, call in self._calls.items():
            if call.session.started:
                self._send(CallFigures(call_id, call.session.stats(now)))

    async def close(self) -> None:
        """End every call."""
        for call_id in list(self._calls):
            self._end(call_id)
        await asyncio.gather(*self._closing)
