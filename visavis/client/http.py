"""One avatar server over its HTTP face: the routes of ``/v1``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import httpx
import numpy as np

from visavis import errors
from visavis.client import http_wire, messages, model
from visavis.client.body_cache import Body, BodyCache
from visavis.client.credentials import ServerCredentials, credentials_of
from visavis.client.http_stream import HttpLink, open_link, unreachable
from visavis.client.server import Progress, gather_bundle, keep_body
from visavis.frames import PICTURES_ONCE

T = TypeVar("T")

_MOST_BYTES = 16 << 20  # of a message, where the picture's size is not known yet
_SILENCE_S = 15.0  # the server's event streams say something every 5 s
_BACKOFF_S = (0.1, 0.5, 1.0)


class HttpServerClient:
    """One server at ``address`` (``http://host:port``, ``https://...`` or ``host:port``); a
    :class:`visavis.client.server.ServerClient`. ``token`` or ``credentials``: see :class:`ServerCredentials`.

    Every method raises :class:`ServerUnavailable` (or its kinds), :class:`AvatarUnknown` or
    :class:`InvalidRequest` with one clear sentence. Belongs to one event loop.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 10.0,
        token: str | None = None,
        credentials: ServerCredentials | None = None,
    ) -> None:
        self.address = address
        base = (address if "://" in address else f"http://{address}").rstrip("/")
        self._socket_url = "ws" + base.removeprefix("http") + "/v1/converse"
        self._credentials = credentials_of(token, credentials)
        self._tls = self._credentials.for_http() if base.startswith("https:") else None
        self._http = httpx.AsyncClient(
            base_url=base,
            timeout=httpx.Timeout(timeout, read=max(timeout, _SILENCE_S)),
            verify=self._tls or True,
            event_hooks={"request": [self._sign]},
        )
        self._avatars: dict[str, model.Avatar] = {}

    async def _sign(self, request: httpx.Request) -> None:
        """Say who we are; a URL with a password in it says that itself."""
        authorization = self._credentials.authorization(self.address)
        if authorization and "Authorization" not in request.headers:
            request.headers["Authorization"] = authorization

    async def close(self) -> None:
        """Close every connection but those of open conversations."""
        await self._http.aclose()

    async def capabilities(self) -> model.Capabilities:
        """What the server is and can do."""
        answer = await self._asking(self._http.get("/v1/capabilities"))
        await self._check(answer)
        return self._understood(lambda a: http_wire.capabilities_from(a.json()), answer)

    async def prepare_source(
        self, source: model.AvatarSource, progress: Progress | None = None
    ) -> model.Avatar:
        """Portrait to prepared avatar; answers at once where it is prepared."""
        about = {
            "width": source.width,
            "height": source.height,
            "fps": str(source.fps),
            "fit": source.fit,
            "settings": json.dumps(dict(source.settings)),
        }
        headers = {"Content-Type": "video/mp4" if source.video else "application/octet-stream"}
        request = self._events("POST", "/v1/avatars", params=about, content=source.image, headers=headers)
        async with contextlib.aclosing(request) as told:
            async for name, data in told:
                if name == "progress" and progress is not None:
                    progress(self._understood(lambda d: float(d["progress"]), data))
                elif name == "avatar":
                    return self._avatar(data)
                elif name == "problem":
                    raise http_wire.error_of(str(data.get("kind")), str(data.get("detail", "")), self.address)
        raise errors.ProtocolError(
            f"the avatar server at {self.address} prepared an avatar without naming it"
        )

    async def fetch_body(self, avatar: model.Avatar, cache: BodyCache) -> Body:
        """The avatar's body, from the cache or from the server into it. Raises also :class:`BodyCorrupt`."""
        return await keep_body(avatar, cache, self._frames(avatar))

    async def export_avatar(self, avatar_id: str) -> list[bytes]:
        """A prepared avatar as an opaque bundle, for :meth:`import_avatar` on a second server."""
        return await gather_bundle(avatar_id, self._bundle(avatar_id))

    async def import_avatar(self, bundle: list[bytes]) -> model.Avatar:
        """Take what :meth:`export_avatar` gave on a server of the same engine build."""

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in bundle:
                yield chunk

        answer = await self._asking(self._http.post("/v1/bundles", content=chunks()))
        await self._check(answer)
        return self._avatar(self._understood(lambda a: a.json(), answer))

    async def watch_capacity(self) -> AsyncIterator[model.Capacity]:
        """How busy the server is, whenever that changes; waits for a server that cannot be reached."""
        attempt, reached = 0, False
        while True:
            try:
                async with contextlib.aclosing(self._events("GET", "/v1/capacity")) as told:
                    async for name, data in told:
                        if name == "capacity":
                            reached = True
                            yield self._understood(http_wire.capacity_from, data)
                raise errors.ServerUnavailable(f"the avatar server at {self.address} ended its reports")
            except errors.ServerUnavailable:
                if reached:
                    raise
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1

    async def converse(self, request: messages.Open, deadline_s: float) -> HttpLink:
        """Open a conversation: one avatar that speaks."""
        avatar = self._avatars.get(request.avatar_id)
        most = _MOST_BYTES if avatar is None else avatar.width * avatar.height * 3 + (64 << 10)
        link = await open_link(
            self._socket_url,
            self.address,
            request,
            most,
            deadline_s,
            authorization="" if "@" in self._socket_url else self._credentials.authorization(self.address),
            tls=self._tls,
        )
        self._remember(link.opened.avatar)
        return link

    # -- inside --

    def _remember(self, avatar: model.Avatar) -> None:
        if len(self._avatars) >= 1024:
            self._avatars.pop(next(iter(self._avatars)))
        self._avatars[avatar.avatar_id] = avatar

    def _avatar(self, told: Any) -> model.Avatar:
        avatar = self._understood(http_wire.avatar_from, told)
        self._remember(avatar)
        return avatar

    def _understood(self, parse: Callable[[Any], T], told: Any) -> T:
        try:
            return parse(told)
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as e:
            raise errors.ProtocolError(
                f"the avatar server at {self.address} answered what the contract does not allow ({e!r})"
            ) from None

    async def _asking(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except httpx.TimeoutException:
            raise errors.ServerStalled(
                f"the avatar server at {self.address} did not answer in time"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as e:  # RuntimeError: closed meanwhile
            raise unreachable(e, self.address) from None

    async def _check(self, answer: httpx.Response) -> None:
        """Raise what problem details say."""
        if answer.is_success:
            return
        await self._asking(answer.aread())
        try:
            told = answer.json()
            kind, detail = str(told["kind"]), str(told["detail"])
        except (ValueError, KeyError, TypeError):
            kind = "unavailable"
            detail = f"it answered {answer.status_code} without problem details: is this an avatar server?"
        raise http_wire.error_of(kind, detail, self.address)

    async def _events(self, method: str, path: str, **options: Any) -> AsyncGenerator[ServerSentEvent, None]:
        headers = {"Accept": "text/event-stream", **options.pop("headers", {})}
        request = self._http.build_request(method, path, headers=headers, **options)
        answer = await self._asking(self._http.send(request, stream=True))
        try:
            await self._check(answer)
            async with contextlib.aclosing(cast("AsyncGenerator[str]", answer.aiter_lines())) as lines:
                async for event in server_sent_events(lambda: self._asking(anext(lines, None))):
                    yield event
        finally:
            await answer.aclose()

    async def _frames(self, avatar: model.Avatar) -> AsyncGenerator[bytes | int, None]:
        """As :func:`keep_body` takes them; a server of before sends every picture."""
        path, size = f"/v1/avatars/{avatar.avatar_id}/body", avatar.frame_bytes
        async with self._download(path, f"{PICTURES_ONCE}, */*;q=0.5") as answer:
            once = answer.headers.get("content-type", "").startswith(PICTURES_ONCE)
            sizes = itertools.chain([4 * avatar.loop_length] if once else [], itertools.repeat(size))
            async with contextlib.aclosing(self._pieces(answer, sizes)) as pieces:
                told = await anext(pieces, b"") if once else b""
                for index, first in enumerate(np.frombuffer(told[: len(told) // 4 * 4], "<u4").tolist()):
                    yield first if first != index else await anext(pieces, b"")
                async for pixels in pieces:
                    yield pixels

    async def _bundle(self, avatar_id: str) -> AsyncGenerator[bytes, None]:
        async with (
            self._download(f"/v1/avatars/{avatar_id}/bundle") as answer,
            contextlib.aclosing(self._pieces(answer, itertools.repeat(1 << 20))) as pieces,
        ):
            async for piece in pieces:
                yield piece

    @contextlib.asynccontextmanager
    async def _download(self, path: str, accept: str = "*/*") -> AsyncIterator[httpx.Response]:
        """A response whose body is still to be read."""
        request = self._http.build_request("GET", path, headers={"Accept": accept})
        answer = await self._asking(self._http.send(request, stream=True))
        try:
            await self._check(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _pieces(self, answer: httpx.Response, sizes: Iterator[int]) -> AsyncGenerator[bytes, None]:
        """A response's body in pieces of these sizes, the last one as it is."""
        held, size = bytearray(), next(sizes)
        async with contextlib.aclosing(cast("AsyncGenerator[bytes]", answer.aiter_bytes())) as chunks:
            while (chunk := await self._asking(anext(chunks, None))) is not None:
                held += chunk
                while len(held) >= size:
                    yield bytes(held[:size])
                    del held[:size]
                    size = next(sizes)
        if held:
            yield bytes(held)


class ServerSentEvent(NamedTuple):
    """An event (WHATWG HTML, section 9.2); ``data`` is its JSON object."""

    name: str
    data: dict[str, Any]


async def server_sent_events(
    next_line: Callable[[], Awaitable[str | None]],
) -> AsyncIterator[ServerSentEvent]:
    """Events out of lines; ``None`` ends them. What is no JSON object is passed over."""
    name, data = "message", ""
    while (line := await next_line()) is not None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line:
            try:
                told = json.loads(data) if data else None
            except ValueError:
                told = None
            if isinstance(told, dict):
                yield ServerSentEvent(name, told)
            name, data = "message", ""
