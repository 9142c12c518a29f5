"""Which access unit goes out at a tick: a cached one, or one of the call's own encoder. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.media.video.idle_loop import Cached, IdleLoop
from visavis.playout.playout import Picture


@dataclass(frozen=True, slots=True)
class Live:
    """Encode the picture; ``idr`` with a key frame, ``fresh`` where the last picture was a cached one."""

    idr: bool
    fresh: bool


def is_plain(picture: Picture) -> bool:
    """Whether the picture is the body's loop frame and nothing else."""
    return (
        not picture.hold and picture.fade is None and (picture.frame is None or picture.frame.pixels is None)
    )


class VideoDirector:
    """Joins cached idle and live pictures at key frames only.

    Cached units are entered at one of their IDRs and left by an IDR of the live encoder. ``refresh`` is the
    number of pictures after which a live stream starts anew by itself (0: never), for peers that cannot ask.
    """

    def __init__(self, refresh: int = 0) -> None:
        self._refresh = refresh
        self._loop: IdleLoop | None = None
        self._phase: int | None = None
        self._position = 0
        self._started = False
        self._since_idr = 0

    @property
    def cached(self) -> bool:
        """Whether the last picture was a cached one."""
        return self._phase is not None

    def restart(self) -> None:
        """The next picture must be decodable by itself (start, resume, another body or encoder)."""
        self._started, self._phase = False, None

    def decide(
        self, picture: Picture, loop: IdleLoop | None, *, skipped: bool = False, keyframe: bool = False
    ) -> Cached | Live | None:
        """The next picture in order. ``skipped``: pictures before it were left out; ``keyframe``: one is due.

        ``None`` leaves this one out as well. After a gap in the cached loop its next key frame is waited for, a
        second at most: a process that was late would be late again if every call coded pictures of its own.
        """
        if loop is not None and is_plain(picture):
            index = picture.loop_index % loop.loop
            if self._phase is not None and loop is self._loop and not skipped and not keyframe:
                position = (self._position + 1) % loop.length
                if position % loop.loop == index:
                    return self._take(loop, self._phase, position)
            entry = loop.entries.get(index)
            if entry is not None:
                return self._take(loop, *entry)
            if skipped and not keyframe and self._phase is not None and loop is self._loop:
                return None
        fresh = self._phase is not None
        self._phase = None
        self._since_idr += 1
        idr = fresh or keyframe or not self._started or 0 < self._refresh <= self._since_idr
        self._started = True
        if idr:
            self._since_idr = 0
        return Live(idr, fresh)

    def _take(self, loop: IdleLoop, phase: int, position: int) -> Cached:
        self._loop, self._phase, self._position, self._started = loop, phase, position, True
        return loop.units[phase][position]
