"""A reply on its way: written ahead of its being wanted, spoken as it is written, ended at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from orchestrator.assistants.base import AssistantError, Piece, Reply, ToolUse
from orchestrator.speech.sentences import Sentences
from visavis.service.logs import Log

log = Log(__name__)

AHEAD = 200
"""Pieces that may wait; the assistant then waits too."""


class PendingReply:
    """Reads a reply to its end, once ``begin`` has it; whoever speaks it takes piece after piece.

    ``foresee`` is told what may be its first sentence.
    """

    def __init__(
        self,
        number: int,
        text: str,
        begin: Callable[[], Awaitable[Reply]],
        foresee: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.number, self.text = number, text
        self.asked_at = asyncio.get_running_loop().time()
        self.first_at = 0.0
        self.written = ""
        """The text so far."""
        self.after: ToolUse | None = None
        """What is to be done after the text that was taken last."""
        self.failed = ""
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue(AHEAD)
        self._reply: Reply | None = None
        self._accepted = False
        self._foresee: Callable[[str], None] | None = foresee
        self._foreseen = ""
        self._ahead = Sentences()
        self._reading = asyncio.create_task(self._read(begin))
        self.speaking: asyncio.Task[None] | None = None

    def accept(self) -> None:
        """It is going to be spoken."""
        self._accepted = True
        if self._reply is not None:
            self._reply.accept()

    async def take(self) -> Piece | None:
        """The next piece, None at the end."""
        return await self._pieces.get()

    async def text_from(self, first: str) -> AsyncIterator[str]:
        """The stretch of text that begins with this piece, up to a tool or the end."""
        self.after = None
        piece: Piece | None = first
        while isinstance(piece, str):
            self.written += piece
            yield piece
            piece = await self.take()
        self.after = piece

    def close(self) -> None:
        """Nobody wants it any more."""
        self._reading.cancel()
        if self.speaking is not None and self.speaking is not asyncio.current_task():
            self.speaking.cancel()

    def _look_ahead(self, piece: Piece | None) -> None:
        """Tell of the first sentence once it is whole, and once before, where it only lacks the space behind it."""
        if self._foresee is None:
            return
        whole = self._ahead.feed(piece) if isinstance(piece, str) else self._ahead.flush()
        sentence = whole[0] if whole else "" if self._foreseen else self._ahead.expected
        if sentence and sentence != self._foreseen:
            self._foreseen = sentence
            self._foresee(sentence)
        if whole:
            self._foresee = None

    async def _read(self, begin: Callable[[], Awaitable[Reply]]) -> None:
        try:
            self._reply = await begin()
            if self._accepted:
                self._reply.accept()
            async with aclosing(self._reply.pieces) as pieces:
                async for piece in pieces:
                    self.first_at = self.first_at or asyncio.get_running_loop().time()
                    self._look_ahead(piece)
                    await self._pieces.put(piece)
            self._look_ahead(None)
        except AssistantError as error:
            self.failed = str(error)
        except Exception:
            log.exception("assistant_failed")
            self.failed = "the assistant failed: the log of the orchestrator tells how"
        await self._pieces.put(None)
