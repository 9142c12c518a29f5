"""The phone: signalling and media of one call, an offer of one audio codec and H.264 (RFC 3264, RFC 6184)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self

from testing.caller.media import RTX, VIDEO, MediaSockets
from testing.caller.microphone import Microphone
from testing.caller.path import LossyPath
from testing.caller.recording import CLOCK_RATES, PAYLOAD_TYPES, Recording
from testing.caller.repair import Repair
from testing.caller.signalling import Dialog

KeyframeRequest = Literal["pli", "fir", "legacy fir", "info"]
_FAST_UPDATE = (
    '<?xml version="1.0" encoding="utf-8" ?><media_control><vc_primitive><to_encoder>'
    "<picture_fast_update/></to_encoder></vc_primitive></media_control>"
)


class Phone:
    """One call to ``sip:user@host:port``. Use as ``async with Phone(uri) as phone``; leaving hangs up.

    ``codec`` is PCMU, PCMA or opus, ``video`` False makes a voice call, ``local`` is the address of this end.
    ``path`` is between its video ports and the far end, ``audio_path`` between its audio ports; with ``nack`` it
    asks for what is lost, to be sent in an RTX stream with ``rtx``; with ``blind`` every key frame is lost until
    ``lose_keyframes`` says otherwise. ``feedback`` is what it offers as ``a=rtcp-fb``; without, it asks for no key
    frame by itself either.
    Raises :class:`CallFailed`.
    """

    def __init__(
        self,
        uri: str,
        *,
        video: bool = True,
        codec: str = "PCMU",
        local: str = "127.0.0.1",
        bandwidth: int = 1500,
        path: LossyPath | None = None,
        audio_path: LossyPath | None = None,
        nack: bool = False,
        rtx: bool = False,
        feedback: tuple[str, ...] = ("nack pli", "ccm fir"),
        blind: bool = False,
    ) -> None:
        self._dialog = Dialog(uri, local)
        self._had_video = video
        self._local, self._video, self._codec, self._bandwidth = local, video, codec, bandwidth
        self._path, self._audio_path, self._nack, self._blind = path, audio_path, nack, blind
        self._feedback = (*feedback, *(["nack"] if nack else []))
        self._rtx = rtx
        self._media: MediaSockets | None = None
        self._version = 1
        self.recording = Recording(codec)

    @property
    def hung_up(self) -> asyncio.Event:
        """Set when the far end has hung up."""
        return self._dialog.hung_up

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._media = await MediaSockets.open(
                self._local, self.recording, self._path, self._nack, self._audio_path
            )
            stack.callback(self._media.close)
            self._media.loses_keyframes = self._blind
            if "nack pli" not in self._feedback:
                self._media.repair = None
            await stack.enter_async_context(self._dialog)
            self._media.connect(await self._dialog.invite(self._offer()))
            self._leave = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.recording.said = self.microphone.said
        await self._leave.aclose()

    @property
    def microphone(self) -> Microphone:
        """What this end says."""
        assert self._media is not None
        return self._media.microphone

    def press(self, digit: str) -> None:
        """Send a DTMF digit (RFC 4733)."""
        assert self._media is not None
        self._media.press(digit)

    async def request_keyframe(self, way: KeyframeRequest = "pli") -> None:
        """Ask for a key frame in one of the ways that phones know."""
        assert self._media is not None
        match way:
            case "pli":
                self._media.send_pli()
            case "fir":
                self._media.send_fir()
            case "legacy fir":
                self._media.send_legacy_fir()
            case "info":
                await self._dialog.request("INFO", _FAST_UPDATE, "application/media_control+xml")

    async def renegotiate(self, direction: str, headers: tuple[str, ...] = ()) -> None:
        """Offer the same with another direction: ``sendonly`` holds the far end (RFC 3264 section 8.4).

        ``headers`` are further lines of the request.
        """
        assert self._media is not None
        self._version += 1
        self._media.redirect(await self._dialog.reinvite(self._offer(direction), headers))

    async def move(self) -> None:
        """Offer the same from other ports, and leave the old ones."""
        assert self._media is not None
        before = self._media
        self._media = await MediaSockets.open(self._local, self.recording)
        self._leave.callback(self._media.close)
        self._version += 1
        answer = await self._dialog.reinvite(self._offer())
        before.close()
        self._media.connect(answer)

    async def switch_camera(self, on: bool) -> bool:
        """Offer the same with or without video; whether there is a picture now."""
        assert self._media is not None
        self._video, self._had_video = on, self._had_video or self._video
        self._version += 1
        answer = await self._dialog.reinvite(self._offer())
        self._media.redirect(answer)
        return "m=video 0 " not in answer and "m=video" in answer

    def lose_keyframes(self, lost: bool) -> None:
        """Whether every packet of a key frame is lost from now on."""
        assert self._media is not None
        self._media.loses_keyframes = lost

    @property
    def repair(self) -> Repair | None:
        """What was asked for again."""
        return self._media.repair if self._media else None

    @property
    def rtx_packets(self) -> int:
        """How many packets came again in an RTX stream."""
        return self._media.rtx_packets if self._media else 0

    def mute(self) -> None:
        """Send neither RTP nor RTCP from now on."""
        assert self._media is not None
        self._media.mute()

    def _offer(self, direction: str = "sendrecv") -> str:
        assert self._media is not None
        return offer(
            self._local,
            self._media.audio_port,
            self._media.video_port if self._video else None,
            codec=self._codec,
            bandwidth=self._bandwidth,
            feedback=self._feedback,
            rtx=self._rtx,
            version=self._version,
            direction=direction,
        ) + ("" if self._video or not self._had_video else f"m=video 0 RTP/AVP {VIDEO}\r\n")


def offer(
    local: str,
    audio_port: int,
    video_port: int | None,
    *,
    codec: str = "PCMU",
    bandwidth: int = 1500,
    feedback: tuple[str, ...] = ("nack pli", "ccm fir"),
    rtx: bool = False,
    version: int = 1,
    direction: str = "sendrecv",
) -> str:
    """What a phone at these ports can do, as SDP."""
    payload_type = PAYLOAD_TYPES[codec]
    clock_rate = CLOCK_RATES[codec]
    channels = "/2" if codec == "opus" else ""  # always two in SDP (RFC 7587 section 7)
    lines = [
        "v=0",
        f"o=- 1 {version} IN IP4 {local}",
        "s=-",
        f"c=IN IP4 {local}",
        "t=0 0",
        f"m=audio {audio_port} RTP/AVP {payload_type} 101",
        f"a=rtpmap:{payload_type} {codec}/{clock_rate}{channels}",
        f"a=rtpmap:101 telephone-event/{clock_rate}",
        "a=fmtp:101 0-15",
        f"a={direction}",
    ]
    if video_port is not None:
        lines += [
            f"m=video {video_port} RTP/AVP {VIDEO}" + (f" {RTX}" if rtx else ""),
            f"b=AS:{bandwidth}",
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1",
            *([f"a=rtpmap:{RTX} rtx/90000", f"a=fmtp:{RTX} apt={VIDEO}"] if rtx else []),
            *(f"a=rtcp-fb:96 {name}" for name in feedback),
            f"a={direction}",
        ]
    return "\r\n".join(lines) + "\r\n"
