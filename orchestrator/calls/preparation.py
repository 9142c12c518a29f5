"""Portraits made into avatars on the inference servers: once each, whatever the number of media workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from orchestrator.avatar.source import PortraitFile
from orchestrator.calls.portraits import DEFAULT, AvatarError, Portrait
from orchestrator.worker.messages import Progress
from visavis.client.body_cache import BodyCache
from visavis.client.model import Avatar, AvatarSource, FitMode
from visavis.client.pool import ServerPool
from visavis.errors import InvalidRequest, ServerUnavailable
from visavis.service.logs import Log

log = Log(__name__)

State = Progress

WAIT_USABLE_S = 2.0
CHECK_S = 30.0
"""How long an upload waits for a server to say yes or no; then it is taken, and prepared when it can be."""
LOOK_S = 0.5
AGAIN_S = 10.0
"""A default avatar that no server holds any more (another engine, an emptied cache) is asked for this often..."""
REFUSED_AGAIN_S = 60.0
"""...and one that was refused this often: another engine may take it."""


@dataclass(frozen=True)
class PortraitShape:
    """How calls show portraits: pixels, pictures a second, crop or whole."""

    width: int
    height: int
    fps: Fraction
    fit: FitMode

    def file(self, path: Path) -> PortraitFile:
        """A portrait of this shape."""
        return PortraitFile.now(path, self.width, self.height, self.fps, self.fit)


@dataclass
class PortraitJob:
    """One portrait on its way to an avatar; ``portrait`` is None while it is an upload that is not yet stored."""

    portrait: Portrait | None = None
    state: State = "preparing"
    reason: str = "the avatar is being prepared"
    digest: str = ""
    avatar: Avatar | None = None
    task: asyncio.Task[Avatar] | None = None
    workers: dict[int, tuple[State, str]] = field(default_factory=dict)
    """What media workers said of it, by pid."""


class PortraitPreparation:
    """Belongs to the control process's event loop.

    ``tell`` is called with a stored portrait and its avatar: as soon as it is prepared, when it is prepared anew
    as another avatar, and by :meth:`tell_all`.
    """

    def __init__(
        self,
        servers: ServerPool,
        bodies: BodyCache,
        shape: PortraitShape,
        tell: Callable[[Portrait, Avatar], None],
    ) -> None:
        self._servers = servers
        self._bodies = bodies
        self._shape = shape
        self._tell = tell
        self._jobs: dict[str, PortraitJob] = {}  # by the portrait's name
        self._usable: bool | None = None
        self._again_after = 0.0

    # -- what is prepared --

    async def check(self, data: bytes) -> PortraitJob:
        """Have an uploaded picture prepared; :meth:`store` is given what it returns.

        Raises :class:`AvatarError` where a server refuses the picture. Where none can be asked within two
        seconds, or none answers within thirty, it is taken and prepared later.
        """
        job = PortraitJob()
        portrait = self._shape.file(Path())
        source = await asyncio.to_thread(portrait.source, data)
        task = self._begin(job, source)
        try:
            await self._servers.wait_usable(WAIT_USABLE_S)
            await asyncio.wait({task}, timeout=CHECK_S)
        except ServerUnavailable:
            pass
        except BaseException:
            task.cancel()
            raise
        if job.state == "failed":
            raise AvatarError(job.reason)
        if job.avatar is None:
            log.info("portrait_not_checked", reason=job.reason)
        return job

    def store(self, portrait: Portrait, checked: PortraitJob) -> None:
        """An uploaded picture is now this portrait."""
        self._replace(portrait, checked)
        if checked.avatar is not None:
            self._tell(portrait, checked.avatar)

    def discard(self, checked: PortraitJob) -> None:
        """What is under way is no longer wanted."""
        if checked.task is not None:
            checked.task.cancel()

    def forget(self, portrait: Portrait) -> None:
        """The portrait was erased: nobody is told of it any more."""
        job = self._jobs.pop(portrait.name, None)
        if job is not None:
            self.discard(job)

    def want(self, portrait: Portrait) -> None:
        """Have a stored portrait ready before somebody dials it."""
        job = PortraitJob()
        self._replace(portrait, job)
        self._begin(job, None)

    def tell_all(self) -> None:
        """Tell of every avatar again, as to a media worker that has just come up."""
        for job in self._jobs.values():
            if job.portrait is not None and job.avatar is not None and job.state == "ready":
                self._tell(job.portrait, job.avatar)

    # -- how far it is --

    def worker_said(self, worker: int, digest: str, state: State, reason: str) -> None:
        """What a media worker (its pid) says of an avatar, named by the digest of its source."""
        for job in self._jobs.values():
            if job.digest == digest:
                job.workers[worker] = state, reason

    def state(self, name: str, workers: Collection[int]) -> tuple[State, str]:
        """How far the avatar of a portrait is, and one sentence where it is not ready.

        ``workers``: the pids of the media workers there are. It is ready when one of them has its idle loop coded;
        a refusal counts whoever met it.
        """
        job = self._jobs.get(name)
        if job is None:
            return "waiting", "the portrait has not been asked for"
        if job.state != "ready":
            return job.state, job.reason
        said = [job.workers[worker] for worker in workers if worker in job.workers]
        for wanted in ("failed", "ready", "waiting"):
            for state, reason in said:
                if state == wanted:
                    return state, reason
        return "coding", "the avatar's idle loop is being coded"

    @property
    def servers_usable(self) -> bool:
        """Some inference server can take a conversation now."""
        return self._servers.choose("") is not None

    # -- life --

    async def watch(self) -> None:
        """Log servers that come and go; ask again for a default avatar that they hold no more. Never returns."""
        while True:
            usable = self.servers_usable
            if usable is not self._usable:
                self._usable = usable
                log.info("inference_servers", usable=usable)
            self._look_after_default()
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Give up what is under way, and let go of every body."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._jobs.clear()

    # -- inside --

    def _replace(self, portrait: Portrait, job: PortraitJob) -> None:
        before = self._jobs.pop(portrait.name, None)
        if before is not None and before.task is not None:
            before.task.cancel()
        job.portrait = portrait
        self._jobs[portrait.name] = job

    def _look_after_default(self) -> None:
        job, now = self._jobs.get(DEFAULT), asyncio.get_running_loop().time()
        if job is None or job.task is None or not job.task.done() or now < self._again_after:
            return
        told = [s for s in self._servers.placement.servers.values() if s.usable and s.capacity is not None]
        held = job.avatar is not None and any(server.holds(job.avatar.avatar_id) for server in told)
        if told and (job.state == "failed" or not held):
            self._again_after = now + AGAIN_S
            self._begin(job, None)

    def _begin(self, job: PortraitJob, source: AvatarSource | None) -> asyncio.Task[Avatar]:
        task = job.task = asyncio.create_task(self._prepare(job, source))
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return task

    async def _prepare(self, job: PortraitJob, source: AvatarSource | None) -> Avatar:
        """Until the avatar is there or refused; the source is let go of then."""
        if source is None:
            assert job.portrait is not None
            source = await self._shape.file(job.portrait.path).read()
        if job.digest != source.digest:
            job.digest = source.digest
            job.workers.clear()

        def on_wait(reason: str) -> None:
            if job.state != "failed":
                self._move(
                    job, "waiting" if reason else "preparing", reason or "the avatar is being prepared"
                )

        on_wait("")
        try:
            avatar, _ = await self._servers.ready(source, self._bodies, on_wait=on_wait)
        except InvalidRequest as error:
            self._again_after = asyncio.get_running_loop().time() + REFUSED_AGAIN_S
            self._move(job, "failed", str(error))
            raise
        self._servers.forget(avatar)  # media workers keep the portrait of what they speak with
        if job.avatar != avatar:
            job.avatar = avatar
            job.workers.clear()
            if job.portrait is not None:
                self._tell(job.portrait, avatar)
        self._move(job, "ready", "")
        return avatar

    def _move(self, job: PortraitJob, state: State, reason: str) -> None:
        if (state, reason) != (job.state, job.reason):
            job.state, job.reason = state, reason
            name = job.portrait.name if job.portrait is not None else ""
            log.info("avatar", portrait=name, avatar=job.digest[:16], state=state, reason=reason)
