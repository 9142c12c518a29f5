"""Your own assistant in forty lines: ``VISAVIS_ASSISTANT=websocket VISAVIS_ASSISTANT_URL=ws://127.0.0.1:9000``."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection, serve


async def answer(connection: ServerConnection, turn: dict[str, object]) -> None:
    """Say a reply as it is written; the voice begins with its first whole sentence."""
    words = f"You said: {turn['text']} That was turn {turn['reply']}.".split()
    for word in words:
        await connection.send(json.dumps({"type": "text", "reply": turn["reply"], "text": f"{word} "}))
    if "bye" in str(turn["text"]).lower():
        tool = {"type": "tool", "reply": turn["reply"], "id": "1", "name": "hang_up", "arguments": {}}
        await connection.send(json.dumps(tool))
    await connection.send(json.dumps({"type": "done", "reply": turn["reply"]}))


async def talk(connection: ServerConnection) -> None:
    """One call, from its first turn to its end."""
    async for text in connection:
        message = json.loads(text)
        if message["type"] == "turn":
            await answer(connection, message)


async def main() -> None:
    """Serve until Ctrl-C."""
    async with serve(talk, "127.0.0.1", 9000) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
