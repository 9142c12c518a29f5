"""What a webhook hears of an honest call beside one that floods: ``python -m bench.event_flood``.

Two phones call an orchestrator whose webhook takes ``--webhook-ms`` for each POST. One sends ``--rate`` keys a
second by INFO, the other presses one a second and hangs up. Printed: how many of the honest call's events came,
when its ``ended`` came, what was posted of the flood, and how many POSTs bore a signature that is right. Then the
webhook fails for a while: how often its address with its password stood in the log, and whether what happened
meanwhile came later. Last, somebody calls whose address is no UTF-8: how the lists of calls and records answer, and
what the webhook hears of the next call.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from typing import Any

import httpx

from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from testing.ports import free_port
from tests.support.house import House, orchestrator

KEY = secrets.token_bytes(24)
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
RELAY = "application/dtmf-relay"
QUIET_S = 15.0
"""With nothing posted for so long, nothing more is waited for."""


class Webhook:
    """An HTTP server that takes ``seconds`` for each POST; ``failing`` answers 500."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.failing = False
        self.events: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        self.signed = self.posts = 0
        self.heard_at = time.monotonic()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                names = (line.partition(":") for line in head.split("\r\n")[1:])
                headers = {name.lower(): value.strip() for name, _, value in names}
                body = await reader.readexactly(int(headers["content-length"]))
                await asyncio.sleep(self.seconds)
                self._take(headers, body)
                status = "500 Internal Server Error" if self.failing else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    def _take(self, headers: dict[str, str], body: bytes) -> None:
        self.posts += 1
        self.heard_at = time.monotonic()
        known = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        right = base64.b64encode(hmac.digest(KEY, known, hashlib.sha256)).decode()
        self.signed += f"v1,{right}" in headers.get("webhook-signature", "").split()
        if not self.failing:
            self.events.append(json.loads(body))
            self.arrived.append(time.monotonic())

    def of(self, call_id: str) -> list[dict[str, Any]]:
        """A call's events so far."""
        return [event for event in self.events if event["call_id"] == call_id]


async def called(house: House, address: str) -> str:
    """The id of the call under way from this address."""
    async with asyncio.timeout(10):
        while True:
            for call in (await house.api.get("/v1/calls")).json():
                if call["source"] == address and call["ended_at"] is None:
                    return str(call["call_id"])
            await asyncio.sleep(0.05)


async def press(dialog: Dialog, digit: str) -> None:
    """One key by INFO, answered."""
    await dialog.request("INFO", f"Signal={digit}\r\nDuration=100\r\n", RELAY)


async def flood(house: House, rate: int, started: asyncio.Event, done: asyncio.Event) -> int:
    """Keys by INFO, ``rate`` a second, whatever becomes of them; how many."""
    async with Dialog(house.uri, "127.0.0.2") as dialog:
        await dialog.invite(offer("127.0.0.2", 4000, None))
        began, sent = time.monotonic(), 0
        while not done.is_set():
            while sent < (time.monotonic() - began) * rate:
                dialog._cseq += 1
                dialog._branch = secrets.token_hex(8)
                body = "Signal=5\r\nDuration=100\r\n"
                dialog._send(dialog._request("INFO", dialog._target, dialog._to, body, RELAY))
                sent += 1
            if sent > 4 * rate:
                started.set()
            await asyncio.sleep(0.01)
    return sent


async def honest(house: House, keys: int) -> str:
    """A call that presses a key a second; its id."""
    async with Dialog(house.uri) as dialog:
        await dialog.invite(offer("127.0.0.1", 4002, None))
        call = await called(house, "127.0.0.1")
        for index in range(keys):
            await asyncio.sleep(1.0)
            await press(dialog, str(index % 10))
    return call


async def flooded(hook: Webhook, house: House, rate: int, keys: int) -> None:
    """The honest call beside the flood, and what came of both."""
    started, done = asyncio.Event(), asyncio.Event()
    flooding = asyncio.create_task(flood(house, rate, started, done))
    await started.wait()
    call = await honest(house, keys)
    hung_up = time.monotonic()
    done.set()
    sent = await flooding
    while time.monotonic() - hook.heard_at < QUIET_S:  # noqa: ASYNC110 - until it is quiet
        await asyncio.sleep(0.2)
    kinds = Counter(event["event"] for event in hook.of(call))
    came = kinds["answered"] + kinds["dtmf"] + kinds["ended"]
    arrived = zip(hook.events, hook.arrived, strict=True)
    ended = next((at for one, at in arrived if one["call_id"] == call and one["event"] == "ended"), None)
    others = [event for event in hook.events if event["call_id"] != call]
    print(f"flood: {sent} keys by INFO at {rate}/s, a webhook that takes {1000 * hook.seconds:.0f} ms")
    print(f"honest call: {came} of {keys + 2} events came, {keys + 2 - came} lost ({dict(kinds)})")
    print(f"its ended came {ended - hung_up:.1f} s after the hang-up" if ended else "its ended never came")
    told = sum(event.get("lost", 0) + event.get("dropped", 0) for event in others)
    digits = sum(event["event"] == "dtmf" for event in others)
    print(f"flood's call: {digits} keys posted, {told} told to be missing")
    lost = [line for line in house.log if line["event"] in ("events_lost", "keys_dropped")]
    print(f"lines of the log about what was lost: {len(lines_of(lost))}; e.g. {lost[-1] if lost else 'none'}")
    print(f"signed: {hook.signed} of {hook.posts} POSTs", flush=True)


def kinds_of(hook: Webhook, call_id: str) -> list[str]:
    """The kinds of a call's events so far."""
    return [str(event["event"]) for event in hook.of(call_id)]


def lines_of(entries: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(entry) for entry in entries]


async def failing(hook: Webhook, house: House, password: str, seconds: float) -> None:
    """A call while the webhook fails; what the log shows, and what comes once it works again."""
    hook.failing, before = True, len(house.log)
    call = await honest(house, 2)
    await asyncio.sleep(seconds)
    hook.failing = False
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and "ended" not in kinds_of(hook, call):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    lines = lines_of(house.log[before:])
    leaks = [line for line in lines if password in line]
    about = [line for line in lines if "webhook" in line]
    print(
        f"a webhook that fails for {seconds:.0f} s: {len(about)} lines of the log, {len(leaks)} with its password"
    )
    print(f"  e.g. {(leaks or about or ['none'])[0].replace(password, '(the password)')}")
    print(f"  of the call meanwhile came {kinds_of(hook, call)}", flush=True)


async def asked(house: House, path: str) -> str:
    """How the API answers."""
    try:
        return str((await house.api.get(path)).status_code)
    except httpx.TransportError as error:
        return type(error).__name__


async def not_utf8(hook: Webhook, house: House) -> None:
    """A call from ``sip:\\xff@h``, and an honest one after it."""
    async with Dialog(house.uri, "127.0.0.3") as dialog:
        text = dialog._request(
            "INVITE", house.uri, f"<{house.uri}>", offer("127.0.0.3", 4004, None), "application/sdp"
        )
        data = text.encode().replace(b"From: <sip:caller@", b"From: <sip:\xff@")
        assert dialog._transport is not None
        dialog._transport.sendto(data, ("127.0.0.1", house.sip_port))
        await asyncio.sleep(2.0)
        answers = [await asked(house, path) for path in ("/v1/calls", "/v1/records", "/metrics")]
        before = len(hook.events)
        async with Dialog(house.uri) as honest_dialog:
            await honest_dialog.invite(offer("127.0.0.1", 4006, None))
            await press(honest_dialog, "1")
        await asyncio.sleep(3.0)
    heard = Counter(event["event"] for event in hook.events[before:])
    print(f"a call from sip:\\xff@h: calls, records and metrics answer {answers}")
    print(f"  of the call after it the webhook heard {dict(heard)}", flush=True)


async def run(options: argparse.Namespace) -> None:
    hook, password = Webhook(options.webhook_ms / 1000), secrets.token_hex(8)
    server = await asyncio.start_server(hook.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/calls?token={password}"
    nobody = [f"127.0.0.1:{free_port()}"]
    async with server, orchestrator(nobody, wait=False, webhook=url, webhook_secret=SECRET) as house:
        await house.answering()
        await flooded(hook, house, options.rate, options.keys)
        await failing(hook, house, password, options.outage)
        await not_utf8(hook, house)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=500, help="keys a second of the flood")
    parser.add_argument("--keys", type=int, default=10, help="keys of the honest call, one a second")
    parser.add_argument("--webhook-ms", type=float, default=100.0, help="what the webhook takes for a POST")
    parser.add_argument("--outage", type=float, default=8.0, help="seconds that it fails afterwards")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
