"""The callers of a soak: each holds a call, has it speak, interrupts, presses keys, holds the line."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.speaking import SENTENCES
from testing.caller import CallFailed, Phone
from tests.support.house import House

PATIENCE_S = 60.0
"""A turn that is not over then is lost."""
KEPT_PACKETS = 3000
_VOICE = 0  # payload type
_KEYS = "12#"
_KEY_S = 0.4
_HOLD_S = 2.0
_REDIAL_S = 2.0


@dataclass
class Tally:
    """What happened since the last look."""

    counts: Counter[str] = field(default_factory=Counter)
    late_ms: list[float] = field(default_factory=list)  # of voice packets

    def lost(self, what: str, why: object) -> None:
        """Something that did not go as it must: told at once, counted, and the soak goes on."""
        self.counts[f"{what}_lost"] += 1
        print(f"lost: {what}: {why}", file=sys.stderr, flush=True)


class Caller:
    """One call after the other, a single one where all goes well; ``number`` shifts what it does when."""

    def __init__(self, house: House, number: int, dialling: asyncio.Lock, tally: Tally) -> None:
        self._house = house
        self._number = number
        self._dialling = dialling
        self._tally = tally
        self._phone: Phone | None = None
        self._call_id = ""
        self._heard = -1  # sequence number up to which voice packets have been judged
        self._prompt = float("inf")  # least delay of a packet in this call
        self._pictures = {"frames_late": 0, "frames_shown": 0}
        self.turns = 0

    @property
    def up(self) -> bool:
        """The call is under way."""
        return self._phone is not None and not self._phone.hung_up.is_set()

    async def call(self) -> None:
        """Until a call is under way."""
        while not self.up:
            phone = Phone(self._house.uri)
            for stream in (phone.recording.audio, phone.recording.video):
                stream.kept = KEPT_PACKETS
            try:
                async with self._dialling:  # one at a time: the new call is ours
                    known = {call["call_id"] for call in await self._calls()}
                    await phone.__aenter__()
                    new = [call["call_id"] for call in await self._calls() if call["call_id"] not in known]
            except (CallFailed, TimeoutError, httpx.HTTPError) as error:
                self._tally.lost("dialling", error)
                await asyncio.sleep(_REDIAL_S)
                continue
            self._phone, self._call_id = phone, new[0] if new else ""
            self._heard, self._prompt = -1, float("inf")
            self._pictures = dict.fromkeys(self._pictures, 0)

    async def talk(self, every_s: float, until: float) -> None:
        """A turn every so many seconds; ``until`` is a moment of the monotonic clock."""
        due = time.monotonic()
        while time.monotonic() + 1.0 < until:
            if not self.up:
                self._tally.lost("call", f"{self._call_id} was hung up")
                await self._leave()
                await self.call()
            try:
                await self._turn()
            except Exception as error:  # whatever it is: the other calls go on, and so does this one
                self._tally.lost("turns", repr(error))
            due = max(due + every_s, time.monotonic())
            await asyncio.sleep(max(0.0, min(due, until) - time.monotonic()))

    async def hang_up(self) -> None:
        """End the call."""
        await self._leave()

    def listen(self) -> None:
        """Judge what came since the last time: how late each voice packet was against the call's promptest one."""
        if self._phone is None:
            return
        audio = self._phone.recording.audio
        for packet in audio.packets:
            if packet.sequence <= self._heard:
                continue
            self._tally.counts["voice_packets"] += 1
            if self._heard >= 0:
                self._tally.counts["voice_packets_lost"] += packet.sequence - self._heard - 1
            self._heard = packet.sequence
            if packet.payload_type == _VOICE:  # a key's packets bear the time of its beginning
                delay = packet.arrived - packet.timestamp / audio.clock_rate
                self._prompt = min(self._prompt, delay)
                self._tally.late_ms.append(1000 * (delay - self._prompt))

    async def look(self) -> None:
        """Take the call's count of pictures whose mouth had not come in time."""
        try:
            media = (await self._house.call(self._call_id))["media"] if self.up and self._call_id else {}
        except (httpx.HTTPError, KeyError) as error:
            self._tally.lost("figures", error)
            return
        for name, before in self._pictures.items():
            self._pictures[name] = int(media.get(name, before))
            self._tally.counts[name] += max(0, self._pictures[name] - before)

    # -- inside --

    async def _turn(self) -> None:
        self.turns += 1
        turn = self.turns + self._number
        beside: list[Awaitable[None]] = []
        if turn % 6 == 3:
            beside.append(self._interrupt(0.5 + turn % 5 * 0.6))
        if turn % 8 == 5:
            beside.append(self._hold(1.0))
        if turn % 5 == 2:
            beside.append(self._press())
        if turn % 10 == 4:
            beside.append(self._be_pressed())
        text = f"{SENTENCES[turn % len(SENTENCES)]} That was number {turn}."
        await asyncio.gather(self._say(text, cut=turn % 6 == 3), *beside)

    async def _say(self, text: str, *, cut: bool) -> None:
        tally = self._tally
        try:
            async with asyncio.timeout(PATIENCE_S):
                url = f"/v1/calls/{self._call_id}/say"
                answer = await self._house.api.post(url, json={"text": text, "wait": True})
            state = answer.json().get("state", answer.text) if answer.status_code == 202 else answer.text
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            state = repr(error)
        if state == "finished" or (cut and state == "interrupted"):
            tally.counts[f"turns_{state}"] += 1
        else:
            tally.lost("turns", f"{self._call_id}: {state}")

    async def _interrupt(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._ask("interrupts", f"/v1/calls/{self._call_id}/interrupt")

    async def _be_pressed(self) -> None:
        await self._ask("keys_sent", f"/v1/calls/{self._call_id}/dtmf", {"digits": _KEYS})

    async def _ask(self, what: str, url: str, body: dict[str, Any] | None = None) -> None:
        try:
            answer = await self._house.api.post(url, json=body)
        except httpx.HTTPError as error:
            self._tally.lost(what, error)
            return
        if answer.status_code == 204:
            self._tally.counts[what] += 1
        else:
            self._tally.lost(what, answer.text)

    async def _press(self) -> None:
        for key in _KEYS:
            if self._phone is not None:
                self._phone.press(key)
                self._tally.counts["keys_pressed"] += 1
            await asyncio.sleep(_KEY_S)

    async def _hold(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        phone = self._phone
        try:
            if phone is not None:
                await phone.renegotiate("sendonly")
                await asyncio.sleep(_HOLD_S)
                await phone.renegotiate("sendrecv")
        except (CallFailed, TimeoutError) as error:
            self._tally.lost("holds", error)
        else:
            self._tally.counts["holds"] += 1

    async def _leave(self) -> None:
        phone, self._phone = self._phone, None
        if phone is not None:
            try:
                await phone.__aexit__()
            except (OSError, TimeoutError) as error:
                self._tally.lost("hanging_up", error)

    async def _calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = (await self._house.api.get("/v1/calls")).json()
        return [call for call in calls if call["ended_at"] is None]
