"""What every way into a call implements: a gateway brings calls in and out, a call's signalling speaks for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.worker.messages import CallOpened


class DialRefused(ValueError):
    """A call of ours that cannot be placed; the message is one sentence."""


class DialForbidden(DialRefused):
    """The dial plan does not allow that target; the message is one sentence."""


class DialLimit(DialRefused):
    """The dial plan allows it, but not now; the message is one sentence."""


class RequestRefused(Exception):
    """The other end does not do what was asked of it, or cannot be asked now; the message is one sentence."""


@dataclass(frozen=True)
class DialOrder:
    """A call to place: ``text`` is spoken when it is answered; ``account`` "" is the first there is, ``assistant``
    None the configured one."""

    to: str
    avatar: str
    text: str
    language: str
    video: bool = True
    account: str = ""
    assistant: str | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was negotiated for a call's media; ``fps`` is that of the body, the same for the whole call.

    ``trim_ms``: how much later the picture is shown than the voice is heard. ``bundle``: the one transport of all
    streams, where they share one.
    """

    audio: AudioParameters
    video: VideoParameters | None
    fps: Fraction
    trim_ms: int = 0
    bundle: BundleAgreement | None = None


@dataclass(frozen=True, slots=True)
class CallEnd:
    """Why a call is over, as its signalling tells.

    ``kind``: hangup, cancelled, rejected, busy, no_answer, not_acceptable, timeout, unreachable, error...;
    ``status``: the code that ended it, 0 where there was none; ``text``: the peer's words.
    ``signalling`` is what the call's record keeps of the gateway's own protocol.
    """

    kind: str
    by: Literal["peer", "us"]
    status: int = 0
    text: str = ""
    signalling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedInvitation:
    """A call that there was no room for: ``cause`` is "no_room" or "draining", ``text`` says more."""

    call_id: str
    caller: str
    dialled: str
    source: str
    account: str
    cause: str
    text: str = ""
    signalling: Mapping[str, Any] = field(default_factory=dict)


class Trace(Protocol):
    """The signalling messages of a call, recorded on request."""

    def text(self) -> str:
        """As a person reads them, without credentials."""


class Signalling(Protocol):
    """One call's signalling. What the peer wrote is fit to be shown: no control characters, of bounded length."""

    @property
    def direction(self) -> Literal["in", "out"]: ...

    @property
    def caller(self) -> str:
        """The other end's address, in either direction."""

    @property
    def dialled(self) -> str:
        """The user part that was dialled."""

    @property
    def source(self) -> str:
        """The other end's network address; "" before it is known."""

    @property
    def account(self) -> str:
        """The account that it came or goes over; "" where that is none of ours."""

    @property
    def ended(self) -> CallEnd | None:
        """How it ended, where it has."""

    @property
    def trace(self) -> Trace | None: ...

    def start_trace(self) -> None:
        """Record the messages from now on."""

    def hang_up(self, reason: str) -> None:
        """End the call in whatever state it is; nothing happens to one that has ended."""

    async def press(self, digits: str, milliseconds: int) -> None:
        """Send keys by signalling, where no way in RTP was agreed. Raises :class:`RequestRefused`, ``CallGone``."""

    async def show(self, shown: bool) -> None:
        """Offer the peer a picture, or take it away. Raises as :meth:`press`."""

    async def transfer(self, to: str) -> int:
        """Have the peer call somebody else; the status that it reports.

        Raises as :meth:`press`, and :class:`DialRefused` where the dial plan does not allow it.
        """


class Invitation(Signalling, Protocol):
    """The signalling of a call that came in and is not answered yet."""

    def answer(self, ports: CallOpened) -> None:
        """Answer with what a call with these ports can do; what is agreed, now or later, is told to the call.

        What it raises refuses the call.
        """


class Gateway(Protocol):
    """A way for calls in and out. It tells the registry of calls that come, are refused and end, and each call what
    its signalling says: see :class:`orchestrator.calls.registry.CallRegistry` and the ``on_`` methods of
    :class:`orchestrator.calls.call.Call`."""

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """Where it listens, by transport."""

    async def start(self) -> None:
        """Begin to listen. Raises ``OSError`` in one sentence where it cannot."""

    def dial(self, call_id: str, order: DialOrder, ports: CallOpened) -> Signalling:
        """Call somebody; returns at once. Raises :class:`DialRefused`."""

    def trace_calls(self, calls: int) -> None:
        """Record the messages of the next so many calls."""

    def drain(self) -> None:
        """Take no new calls; those under way go on."""

    async def close(self) -> None:
        """Hang up what is left, and stop to listen."""
