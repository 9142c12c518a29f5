"""Replicas of avatars: which servers hold one, and how it gets to another: copied there, or prepared again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from visavis.client.model import Avatar, AvatarSource
from visavis.client.placement import Placement
from visavis.client.server import ServerClient
from visavis.errors import AvatarUnknown, InvalidRequest, VisavisError
from visavis.service.logs import Log

log = Log("visavis.client.pool")

_KEEP_WARM_S = 1.0
_TRY_AGAIN_S = 10.0
_ANOTHER_BODY_S = 300.0  # another version: nothing changes there soon
_PREPARE_S = 120.0
_REMEMBERED = 128
"""Avatars nobody converses with that are remembered, with their portraits, for a while."""


class AnotherBody(InvalidRequest):
    """A server's ``avatar`` of the same portrait has another size, rate or loop, as another version's may."""

    def __init__(self, address: str, avatar: Avatar) -> None:
        super().__init__(f"avatar {avatar.avatar_id} on {address} has another size, rate or loop")
        self.avatar = avatar


def check_same_body(address: str, there: Avatar, wanted: Avatar) -> None:
    """Raises :class:`AnotherBody` where mouths drawn there do not fit the body that is wanted."""

    def shape(avatar: Avatar) -> tuple[object, ...]:
        return avatar.width, avatar.height, avatar.fps, avatar.loop_length

    if shape(there) != shape(wanted):
        raise AnotherBody(address, there)


def _seen(preparing: asyncio.Task[str]) -> None:
    """Its exception is for whoever waits, and nobody may any more."""
    if not preparing.cancelled():
        preparing.exception()


class Replicas:
    """The replicas of one pool's avatars on its servers (``clients`` by address, as they come and go)."""

    def __init__(self, placement: Placement, clients: Mapping[str, ServerClient]) -> None:
        self._placement = placement
        self._clients = clients
        self._avatars: dict[str, Avatar] = {}
        self._sources: dict[str, AvatarSource] = {}
        self._ids: dict[tuple[str, str], str] = {}  # (address, avatar id) -> the id it has there
        self._preparing: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._uses: Counter[str] = Counter()  # streams by avatar id
        self._warm_after: dict[tuple[str, str], float] = {}

    def remember(self, avatar: Avatar, source: AvatarSource | None) -> None:
        """What an avatar can be prepared from again."""
        self._avatars.pop(avatar.avatar_id, None)
        self._avatars[avatar.avatar_id] = avatar
        if source is not None:
            self._sources[avatar.avatar_id] = source
        if len(self._avatars) > _REMEMBERED:
            self._forget_idle()

    def forget(self, avatar: Avatar) -> None:
        """Let go of it, unless a conversation uses it."""
        if not self._uses[avatar.avatar_id]:
            for kept in (self._avatars, self._sources, self._uses):
                kept.pop(avatar.avatar_id, None)

    def use(self, avatar: Avatar, change: int) -> None:
        """So many more conversations with it."""
        self._uses[avatar.avatar_id] += change
        if self._uses[avatar.avatar_id] <= 0:
            del self._uses[avatar.avatar_id]

    def id_on(self, address: str, avatar: Avatar) -> str:
        """The id that the avatar has on this server (another engine build has ids of its own)."""
        return self._ids.get((address, avatar.avatar_id), avatar.avatar_id)

    def note(self, address: str, avatar_id: str) -> None:
        """The avatar is prepared there."""
        if server := self._placement.servers.get(address):
            server.prepared.add(avatar_id)

    async def prepare_on(self, client: ServerClient, avatar: Avatar) -> str:
        """Have the avatar on this server, once whoever asks; returns its id there.

        Raises :class:`AvatarUnknown` where it cannot be had, :class:`AnotherBody`, ``TimeoutError`` after two
        minutes.
        """
        key = (client.address, avatar.avatar_id)
        task = self._preparing.get(key)
        if task is None:
            task = self._preparing[key] = asyncio.create_task(self._prepare_on(client, avatar))
            task.add_done_callback(lambda _: self._preparing.pop(key, None))
            task.add_done_callback(_seen)
        async with asyncio.timeout(_PREPARE_S):
            return await asyncio.shield(task)

    async def keep_warm_forever(self) -> None:
        """Avatars in use stay prepared on two servers where there are two."""
        while True:
            await asyncio.sleep(_KEEP_WARM_S)
            for avatar_id in [a for a, uses in self._uses.items() if uses > 0]:
                await self._keep_warm(avatar_id)

    async def close(self) -> None:
        """Stop preparing."""
        tasks = list(self._preparing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside --

    def _forget_idle(self) -> None:
        """Let go of the avatars remembered first that nobody uses, and of what is known of servers long gone."""
        idle = [a for a in self._avatars if a not in self._uses]
        for avatar_id in idle[: max(0, len(idle) - _REMEMBERED)]:
            del self._avatars[avatar_id]
            self._sources.pop(avatar_id, None)
        for known in (self._ids, self._warm_after):
            for key in [k for k in known if k[0] not in self._clients or k[1] not in self._avatars]:
                del known[key]

    async def _keep_warm(self, avatar_id: str) -> None:
        now = asyncio.get_running_loop().time()
        spare = self._placement.spare(avatar_id, now)
        if spare is None or self._warm_after.get((spare[0], avatar_id), 0) > now:
            return
        address = spare[0]
        self._warm_after[address, avatar_id] = now + _TRY_AGAIN_S
        try:
            await self.prepare_on(self._clients[address], self._avatars[avatar_id])
        except (VisavisError, TimeoutError, KeyError) as e:
            if isinstance(e, AnotherBody):
                self._warm_after[address, avatar_id] = now + _ANOTHER_BODY_S
            log.info("avatar_not_kept_warm", server=address, reason=str(e))

    async def _prepare_on(self, client: ServerClient, avatar: Avatar) -> str:
        there = await self._copied(client, avatar.avatar_id)
        if there is None and (source := self._sources.get(avatar.avatar_id)):
            there = await client.prepare_source(source)
        if there is None:
            raise AvatarUnknown(
                f"avatar {avatar.avatar_id} is not prepared on {client.address} and its portrait is not at hand"
            )
        self.note(client.address, there.avatar_id)
        check_same_body(client.address, there, avatar)
        self._ids[client.address, avatar.avatar_id] = there.avatar_id
        self.note(client.address, avatar.avatar_id)
        return there.avatar_id

    async def _copied(self, client: ServerClient, avatar_id: str) -> Avatar | None:
        """The avatar, exported from a server that holds it; ``None`` where that did not work."""
        now = asyncio.get_running_loop().time()
        holder = self._placement.holder(avatar_id, now, client.address)
        if holder is None:
            return None
        try:
            return await client.import_avatar(await self._clients[holder].export_avatar(avatar_id))
        except (VisavisError, KeyError) as e:
            log.info("avatar_not_copied", server=client.address, reason=str(e))
            return None
