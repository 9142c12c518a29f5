"""The webhook: every event as a signed POST, calls in turn, until it was taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from orchestrator.calls.event import CallEvent
from orchestrator.calls.events import EventBus, Subscription
from orchestrator.webhook.signing import Signer, kept_secret
from orchestrator.webhook.spool import Spool
from visavis.service.logs import Log
from visavis.service.secret import Secret, SecretUrl

log = Log(__name__)

NAME = "webhook"
AT_ONCE = 8
TIMEOUT_S = 5.0
ATTEMPTS = 3
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 30.0
SPOOL_EVERY_S = 1.0
LOG_EVERY_S = 1.0


class Webhook:
    """Posts the events of a bus to ``url``, those of one call in order, of up to eight calls at once.

    An ordinary event gets three attempts. ``answered`` and ``ended`` are tried until they are taken, at growing
    intervals of at most half a minute; those that wait for longer than a second are kept in ``spool``, also over
    the end of the process. ``posts`` counts attempts by outcome: "taken", "refused".
    """

    def __init__(
        self,
        bus: EventBus,
        url: SecretUrl,
        signer: Signer,
        spool: Spool,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.posts: Counter[str] = Counter()
        self._bus = bus
        self._url = url
        self._signer = signer
        self._spool = spool
        self._events = Subscription(NAME)
        self._events.on_lost = self._given_up
        self._tries: Counter[str] = Counter()
        self._busy: dict[str, CallEvent] = {}
        self._failures = 0
        self._logged_at = float("-inf")
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport)
        bus.subscribe(self._events)

    @property
    def waiting(self) -> int:
        """Events that have not been taken yet."""
        return len(self._events.queue) + len(self._busy)

    def jobs(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What has to run, by name, until it is cancelled: the posters and the writer of the spool."""
        posters = {f"{NAME} {index}": self._post_events for index in range(AT_ONCE)}
        return {f"{NAME} spool": self._keep_spool, **posters}

    async def close(self, within_s: float) -> None:
        """Wait so long for what is on its way, then leave what must not be lost in the spool."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._events.queue.idle and not self._failures:  # noqa: ASYNC110 - at the end only
                    await asyncio.sleep(0.02)
        self._bus.unsubscribe(self._events)
        kept = self._unwritten(0.0)
        await asyncio.to_thread(self._spool.write, kept)
        if left := self.waiting - len(kept):
            log.warning("events_lost", listener=NAME, count=left)
        self._spool.close()
        await self._client.aclose()

    async def _keep_spool(self) -> None:
        for event in await asyncio.to_thread(self._spool.load):
            self._events.put(event)
        while True:
            await asyncio.sleep(SPOOL_EVERY_S)
            if late := self._unwritten(SPOOL_EVERY_S):
                await asyncio.to_thread(self._spool.write, late)
                waiting = {event.id for event in self._unwritten(0.0)}
                for event in late:
                    if event.id not in waiting:
                        self._spool.remove(event.id)  # it was taken meanwhile

    def _unwritten(self, older_s: float) -> list[CallEvent]:
        before = time.time() - older_s
        waiting = [*self._busy.values(), *self._events.queue.lasting()]
        return [event for event in waiting if event.lasting and event.time <= before]

    async def _post_events(self) -> None:
        while True:
            event = await self._events.take()
            self._busy[event.id] = event
            pause = 0.0
            try:
                refusal = await self._post(event)
            except BaseException:
                self._events.queue.put_back(event)
                raise
            else:
                pause = self._settle(event, refusal)
            finally:
                del self._busy[event.id]
                self._release(event.call_id, pause)

    def _release(self, call_id: str, pause: float) -> None:
        if pause:
            asyncio.get_running_loop().call_later(pause, self._events.done, call_id)
        else:
            self._events.done(call_id)

    def _settle(self, event: CallEvent, refusal: str) -> float:
        """What becomes of an event: the seconds for which its call has to wait."""
        if not refusal:
            self.posts["taken"] += 1
            self._tries.pop(event.id, None)
            self._spool.remove(event.id)
            self._failures = 0
            return 0.0
        self.posts["refused"] += 1
        self._failures += 1
        self._tries[event.id] += 1
        tries = self._tries[event.id]
        self._complain(refusal)
        if event.lasting or tries < ATTEMPTS:
            self._events.queue.put_back(event)
            return float(min(FIRST_RETRY_S * 2 ** min(tries - 1, 20), LAST_RETRY_S))
        self._events.queue.lose(event)
        self._given_up(event)
        self._bus.note_lost(NAME, 1)
        return 0.0

    def _given_up(self, event: CallEvent) -> None:
        self._tries.pop(event.id, None)
        self._spool.remove(event.id)

    def _complain(self, refusal: str) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "webhook_failed",
                url=str(self._url),
                reason=refusal,
                failures=self._failures,
                waiting=self.waiting,
            )

    async def _post(self, event: CallEvent) -> str:
        """ "" where it was taken, else why not, in words that hold nothing of the address."""
        body = event.as_json().encode()
        headers = {
            "content-type": "application/json",
            **self._signer.headers(event.id, int(time.time()), body),
        }
        try:
            answer = await self._client.post(self._url.reveal(), content=body, headers=headers)
        except httpx.TimeoutException:
            return f"no answer within {TIMEOUT_S:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"it cannot be reached ({type(error).__name__})"
        return "" if answer.is_success else f"it answered {answer.status_code}"


def make_webhook(bus: EventBus, url: SecretUrl, secret: Secret, data_dir: Path) -> Webhook:
    """The webhook of the settings; without a secret in them one is made and kept in ``data_dir``.

    Raises ``OSError`` in one sentence where that cannot be.
    """
    folder = data_dir / "webhook"
    if not secret:
        try:
            secret = kept_secret(folder / "secret")
        except OSError as error:
            raise OSError(
                f"the webhook's secret cannot be kept in {folder} ({error.strerror}): set VISAVIS_WEBHOOK_SECRET"
            ) from None
    try:
        signer = Signer(secret)
    except ValueError as error:
        raise OSError(
            f"{folder / 'secret'} holds no secret ({error}): delete it, and another is made"
        ) from None
    return Webhook(bus, url, signer, Spool(folder))
