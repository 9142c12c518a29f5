"""A web service on the loopback that answers as its script says, faults included."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_fake import served


@dataclass
class Answer:
    """One response: ``pieces`` are written as they are, floats are seconds of waiting; ``cut``: without an end."""

    pieces: Sequence[str | float] = ()
    status: int = 200
    cut: bool = False


@dataclass
class FakeService:
    """``asked`` are the bodies and headers of requests; the last answer is given again and again."""

    answers: list[Answer]
    asked: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    closed_early: int = 0
    connections: int = 0
    hangs_up: bool = False
    """The next request is not answered: its connection is closed."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.paths.append(lines[0].split()[1])
                self.asked.append((json.loads(body or b"{}"), headers))
                if self.hangs_up:
                    self.hangs_up = False
                    break
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await self._answer(answer, writer)
                if answer.cut:
                    break

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 {answer.status} X\r\ncontent-type: text/event-stream\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        for piece in answer.pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            try:
                data = piece.encode()
                writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                await writer.drain()
            except ConnectionError:
                self.closed_early += 1
                raise
        if not answer.cut:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@contextlib.asynccontextmanager
async def fake_service(*answers: Answer) -> AsyncIterator[FakeService]:
    """A running one."""
    fake = FakeService(list(answers))
    async with served(fake.serve) as fake.url:
        yield fake


def event(data: dict[str, Any] | str, name: str = "") -> str:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"
