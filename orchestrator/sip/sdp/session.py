"""One call's offer/answer state (RFC 3264): our o= line, the m-line order, who is to answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from orchestrator.sip.sdp.answer import answer_offer
from orchestrator.sip.sdp.bundle import session_lines
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.crypto import Keys
from orchestrator.sip.sdp.description import SdpError, SessionDescription, parse_sdp
from orchestrator.sip.sdp.offer import make_offer, read_answer


class SdpSession:
    """The offers and answers of one call, whose o= keeps its id, and its version while nothing changes.

    `check` raises NotAcceptable for what may not be agreed.
    """

    def __init__(
        self,
        *,
        name: str = "visavis",
        session_id: int | None = None,
        check: Callable[[NegotiatedMedia], None] = lambda media: None,
    ) -> None:
        self._name = name
        self._check = check
        self._id = secrets.randbits(53) if session_id is None else session_id
        self._version = self._id
        self._keys: Keys = {}
        self._body: tuple[str, ...] | None = None
        self._local: SessionDescription | None = None
        self._offered: tuple[SessionDescription, MediaCapabilities, str] | None = None
        self._before: tuple[str, ...] | None = None
        self.local_text: str = ""
        self.media: NegotiatedMedia | None = None

    @property
    def offer_pending(self) -> bool:
        """Whether an offer of ours waits for its answer."""
        return self._offered is not None

    def answer(self, offer: SessionDescription | bytes | str, capabilities: MediaCapabilities) -> str:
        """Answer an offer; `media` is the agreement afterwards. Raises NotAcceptable, SdpError.

        What was agreed before stands where it raises.
        """
        parsed = offer if isinstance(offer, SessionDescription) else parse_sdp(offer)
        sections, media = answer_offer(parsed, capabilities, self._keys)
        self._check(media)
        before_streams = []
        if media.bundle is not None:
            taken = [m for m, section in zip(parsed.media, sections, strict=True) if len(section) > 1]
            before_streams = session_lines(taken)
        text = self._compose(capabilities, sections, before_streams)
        self._before = None
        self.media = media
        return text

    def offer(self, capabilities: MediaCapabilities) -> str:
        """An offer of everything we can do, in the m-line order the session has."""
        self._before = self._body
        layout = self._local.media if self._local is not None else []
        text = self._compose(capabilities, make_offer(capabilities, layout, self._keys))
        assert self._local is not None
        self._offered = (self._local, capabilities, text)
        return text

    def accept(
        self, answer: SessionDescription | bytes | str, *, provisional: bool = False
    ) -> NegotiatedMedia:
        """Take the answer to our offer. Raises NotAcceptable, SdpError.

        The offer is settled either way, unless the answer is `provisional` (early media): then another
        one may follow. An answer that cannot be taken leaves what was agreed before.
        """
        if self._offered is None:
            raise NotAcceptable("no offer of ours is open")
        offered, capabilities, _ = self._offered
        try:
            parsed = answer if isinstance(answer, SessionDescription) else parse_sdp(answer)
            media = read_answer(offered, parsed, capabilities, self._keys)
            self._check(media)
        except (NotAcceptable, SdpError):
            if not provisional:
                self.withdraw()
            raise
        if not provisional:
            self._offered = None
        self._before = None
        self.media = media
        return media

    def withdraw(self, offer: str = "") -> None:
        """Our offer was refused: what was agreed before stands, and so does our description of it.

        Where `offer` is given and another one is open by now, that one stays.
        """
        if offer and self._offered is not None and self._offered[2] != offer:
            return
        if self._offered is not None and self._before is not None:
            self._describe(self._before)
        self._offered = self._before = None

    def _compose(
        self, capabilities: MediaCapabilities, sections: list[list[str]], attributes: Sequence[str] = ()
    ) -> str:
        family = "IP6" if ":" in capabilities.address else "IP4"
        connection = f"c=IN {family} {capabilities.address}"
        body = (connection, "t=0 0", *attributes, *(line for section in sections for line in section))
        self._describe(body)
        return self.local_text

    def _describe(self, body: tuple[str, ...]) -> None:
        """Make our description of these lines, c= first; whatever was sent before, a change is a later version."""
        if self._body is not None and body != self._body:
            self._version += 1
        self._body = body
        network = body[0].removeprefix("c=")
        origin = f"o={self._name} {self._id} {self._version} {network}"
        self.local_text = "\r\n".join(["v=0", origin, f"s={self._name}", *body, ""])
        self._local = parse_sdp(self.local_text)


__all__ = ["SdpError", "SdpSession"]
