"""The feeder of a provider: one thread per turn, kept waiting where RoomKit needs it, told apart after a cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from visavis.errors import ProviderMisuse

_OWNER_QUIET_S = 2.0
_MOST_AHEAD_S = 1.5  # RoomKit's channel takes a feeder that is silent for 2 s for finished
_NOT_PLAYED_S = 1.0
_PAUSE_S = 0.1


class Feeder:
    """The thread that feeds a conversation. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: tuple[int, float] | None = None  # thread that feeds the turn, and when it last did
        self._waiting = False  # a thread is held back
        self._dropping = False  # what it still brings belongs to a voice that was cut
        self._last_fed = 0.0

    def claim(self) -> None:
        """This thread feeds. Raises :class:`ProviderMisuse` where another one has just done so."""
        me, now = _name(), time.monotonic()
        with self._lock:
            if self._owner is not None and self._owner[0] != me and now - self._owner[1] < _OWNER_QUIET_S:
                raise ProviderMisuse(
                    "two threads feed one avatar provider at the same time: give each conversation its own provider"
                )
            self._owner = (me, now)

    def release(self) -> None:
        """The turn is over: any thread may feed the next one."""
        with self._lock:
            self._owner = None

    def cut(self) -> None:
        """The voice was cut: what a thread that is held back still brings is not wanted."""
        self.release()
        self._dropping = self._waiting

    def brings_what_was_cut(self) -> bool:
        """What a thread that was held back brings without a pause was fed before the cut."""
        if self._dropping:
            now = time.monotonic()
            self._dropping = now - self._last_fed < _PAUSE_S
            self._last_fed = now
        return self._dropping

    def hold_back(self, ahead_s: Callable[[], float], wanted: Callable[[], bool]) -> None:
        """Keep a worker thread of a pool until little audio is ahead of the picture, while that is ``wanted``.

        RoomKit's ``AudioVideoChannel`` shows no picture of a turn 2 s after it has fed its last audio, however
        long that plays. An event loop or any other thread is never kept waiting.
        """
        if not threading.current_thread().name.startswith("ThreadPoolExecutor"):
            return
        least, since = float("inf"), time.monotonic()
        while (ahead := ahead_s()) > _MOST_AHEAD_S and wanted() and not self._dropping:
            if ahead < least:
                least, since = ahead, time.monotonic()
            elif time.monotonic() - since > _NOT_PLAYED_S:
                break
            self._waiting = True
            time.sleep(0.02)
        self._waiting, self._last_fed = False, time.monotonic()


def _name() -> int:
    """Names the thread that feeds; those of ``asyncio.to_thread`` take turns for one conversation."""
    thread = threading.current_thread()
    return -1 if thread.name.startswith("asyncio_") else thread.ident or 0
