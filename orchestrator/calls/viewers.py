"""Who watches calls: coded pictures come from a call's worker while somebody wants them; none is coded anew."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.calls.follower import Follower
from orchestrator.worker.messages import CallMessage, RequestKeyframe, View, Viewed

_KEPT = 25


class Viewer(Follower[Viewed]):
    """One that watches: see :class:`Follower`.

    It begins with a key frame. About a second is kept for one that is slow; then it waits for the next key frame.
    """

    def __init__(self, close: Callable[[Viewer], None], ask: Callable[[], None]) -> None:
        super().__init__(close)
        self._ask = ask
        self._waits = True

    def put(self, picture: Viewed) -> None:
        """A picture was sent to the caller."""
        if len(self._kept) >= _KEPT:
            self._kept.clear()
            self._waits = True
            self._ask()
        if self._waits and not picture.key:
            return
        self._waits = False
        self.keep(picture)


class Viewing:
    """Every call's viewers; ``send`` is the way to the workers."""

    def __init__(self, send: Callable[[CallMessage], None]) -> None:
        self._send = send
        self._viewers: dict[str, list[Viewer]] = {}
        self._recorders: dict[str, Callable[[Viewed], None]] = {}

    def view(self, call_id: str) -> Viewer:
        """See what the caller sees, from the next key frame on."""

        def ask() -> None:
            self._send(RequestKeyframe(call_id))

        viewer = Viewer(lambda gone: self._leave(call_id, gone), ask)
        if not self._wanted(call_id):
            self._send(View(call_id, True))
        self._viewers.setdefault(call_id, []).append(viewer)
        ask()
        return viewer

    def record(self, call_id: str, take: Callable[[Viewed], None] | None) -> None:
        """Have every picture as it comes from the worker, a key frame soon; ``None``: no more."""
        wanted = self._wanted(call_id)
        if take is not None:
            self._recorders[call_id] = take
            self._send(RequestKeyframe(call_id))
        else:
            self._recorders.pop(call_id, None)
        if wanted != self._wanted(call_id):
            self._send(View(call_id, not wanted))

    def viewed(self, picture: Viewed) -> None:
        """A worker sent a picture."""
        if take := self._recorders.get(picture.call_id):
            take(picture)
        for viewer in self._viewers.get(picture.call_id, ()):
            viewer.put(picture)

    def ended(self, call_id: str) -> None:
        """A call is over."""
        self._recorders.pop(call_id, None)
        for viewer in self._viewers.pop(call_id, ()):
            viewer.end()

    def _leave(self, call_id: str, viewer: Viewer) -> None:
        viewers = self._viewers.get(call_id, [])
        if viewer in viewers:
            viewers.remove(viewer)
            if not viewers:
                del self._viewers[call_id]
                if not self._wanted(call_id):
                    self._send(View(call_id, False))

    def _wanted(self, call_id: str) -> bool:
        return call_id in self._recorders or call_id in self._viewers
