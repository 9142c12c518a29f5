"""What a caller hears when a part of the conversation is killed in mid-turn, by SIGKILL: how soon a whole sentence.

``python -m bench.conversation.kills listening|voices|assistant [--turns 20]``

The assistant is a program of its own over a WebSocket, whose sentences are all different, so that none is cached.
Each kill comes at another moment: while the caller speaks (measured from the last word on, since nobody is answered
before it), while the answer is thought of, while it is spoken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection, serve

from bench.conversation.sound import last_word
from bench.conversation.talks import listening, report
from testing.ports import free_port
from tests.support.house import orchestrator
from tests.support.servers import running_server
from tests.support.speech import speech
from tests.support.talk import Talk, calling, pid_of
from visavis import portraits

MODULES = {"listening": "orchestrator.listening.process", "voices": "orchestrator.speech.process"}
MOMENTS = ("while the caller speaks", "while the answer is thought of", "while it is spoken")
QUESTION = "Please tell me when you are open."
WITHIN_S = 3.0
_THINKS_S = 0.3
_LONGEST_S = 40.0
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


async def service(port: int) -> None:
    """An assistant that thinks for a third of a second and never says the same twice."""
    began = int(time.time())

    async def talk(connection: ServerConnection) -> None:
        async for text in connection:
            message = json.loads(text)
            if message["type"] != "turn":
                continue
            number, reply = began + message["reply"], message["reply"]
            named = " ".join(_NUMBERS[int(digit)] for digit in str(number)[-5:])
            words = f"Your ticket has the number {named}. Please keep it until we call {named} again."
            await asyncio.sleep(_THINKS_S)
            await connection.send(json.dumps({"type": "text", "reply": reply, "text": words}))
            await connection.send(json.dumps({"type": "done", "reply": reply}))

    async with serve(talk, "127.0.0.1", port) as server:
        await server.serve_forever()


class Service:
    """That program, which can be killed and started again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """And wait until it is there."""
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.conversation.kills", "serve", "--port", str(self.port))
        )
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """By SIGKILL."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def conversing() -> AsyncIterator[tuple[Talk, Service]]:
    """A call to both services and that assistant."""
    ours = Service(free_port())
    speech(QUESTION, 8000)
    try:
        await ours.start()
        async with (
            running_server(engine="mock") as server,
            orchestrator(
                [server.address],
                portrait=portraits.DEFAULT.read_bytes(),
                assistant="websocket",
                assistant_url=f"ws://127.0.0.1:{ours.port}",
                greeting="Hello.",
            ) as house,
            calling(house) as talk,
        ):
            await listening(talk)
            yield talk, ours
    finally:
        await ours.kill()


async def sentence(talk: Talk, since: float) -> float:
    """Seconds from then to the beginning of a turn that is heard whole; one that was under way began at once."""
    async with asyncio.timeout(_LONGEST_S):
        while True:
            for ended in talk.all("turn_finished", state="finished"):
                if ended["time"] > since:
                    started = talk.all("turn_started", turn_id=ended["turn_id"])[0]
                    return max(0.0, float(started["time"]) + float(started["wait_ms"]) / 1000 - since)
            await asyncio.sleep(0.02)


async def one(talk: Talk, ours: Service, what: str, moment: int) -> float:
    """Ask, kill, and listen."""
    begun, turns = len(talk.all("speech_started")), len(talk.all("turn_started"))
    talk.say(QUESTION)
    await talk.of("speech_started", begun + 1)
    if moment == 0:
        await asyncio.sleep(0.5)
    elif moment == 1:
        await talk.of("transcript", len(talk.all("transcript", final=True)) + 1, final=True)
    else:
        await talk.of("turn_started", turns + 1)
        await asyncio.sleep(0.5)
    since = time.time()
    if what == "assistant":
        await ours.kill()
    else:
        os.kill(pid_of(talk.house, MODULES[what]), signal.SIGKILL)
    if moment == 0:
        while talk.phone.microphone.busy:  # noqa: ASYNC110 - a phone that is spoken into
            await asyncio.sleep(0.01)
        since = max(
            since, time.time() - len(speech(QUESTION, 8000)) / 8000 + last_word(speech(QUESTION, 8000), 8000)
        )
    took = await sentence(talk, since)
    if what == "assistant":
        await ours.start()
    await ready(talk)
    return took


async def ready(talk: Talk) -> None:
    """For the next kill; the script has taken the call where the assistant was away for two turns in a row."""
    await talk.house.api.patch(f"/v1/calls/{talk.call}/assistant", json={"assistant": "websocket"})
    await asyncio.sleep(1.0)
    await listening(talk)


async def kills(what: str, turns: int) -> None:
    """So many, and what became of the call."""
    heard: dict[str, list[float]] = {moment: [] for moment in MOMENTS}
    async with conversing() as (talk, ours):
        for turn in range(turns):
            moment = turn % len(MOMENTS)
            try:
                took = await one(talk, ours, what, moment)
                heard[MOMENTS[moment]].append(took)
                print(f"{turn + 1}: {took:.2f} s, killed {MOMENTS[moment]}", flush=True)
            except TimeoutError:
                heard[MOMENTS[moment]].append(float("inf"))
                print(f"nothing was heard after kill {turn + 1}, {MOMENTS[moment]}", flush=True)
                print(*talk.events[-20:], *talk.house.log[-20:], sep="\n")
                await ready(talk)
        about = await talk.house.call(talk.call)
    for name, seconds in heard.items():
        report(name, [1000 * each for each in seconds])
    whole = sum(each <= WITHIN_S for seconds in heard.values() for each in seconds)
    print(f"{what} killed {turns} times: a whole sentence within {WITHIN_S:g} s {whole} times")
    print("the call went on" if about["ended_at"] is None else f"the call ended: {about['cause']}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*MODULES, "assistant", "serve"])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.what == "serve":
        asyncio.run(service(options.port))
    else:
        asyncio.run(kills(options.what, options.turns))


if __name__ == "__main__":
    main()
