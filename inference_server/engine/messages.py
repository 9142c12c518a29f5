"""What the front and the engine process say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Any

from visavis.service.ipc import Codec

Answer = tuple[str, tuple[int, int, int, int] | None, str | None]
"""What became of a row: kind, rectangle, error."""
HOPELESS = "Hopeless"
"""``kind`` of a failed load that no second try can mend: a setting, an import, a missing or damaged file."""


@dataclass(slots=True)
class Attach:
    """Make a prepared avatar resident; answered by Attached or Failed(``attach``)."""

    avatar_id: str
    avatar_dir: str
    body_dir: str


@dataclass(slots=True)
class Detach:
    """Let go of it."""

    avatar_id: str


@dataclass(slots=True)
class OpenTrack:
    """Audio of a new turn of ``client``, whose first appended sample is number ``origin``. ``level``: of the turn
    before, as the engine told it."""

    track: int
    avatar_id: str
    fps: tuple[int, int]
    origin: int
    client: str = ""
    level: float | None = None


@dataclass(slots=True)
class Append:
    """More s16le audio (in ``payload``)."""

    track: int
    payload: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class EndTrack:
    """No more audio comes."""

    track: int


@dataclass(slots=True)
class CloseTrack:
    """The turn is dead: rows of it that have not begun cost nothing."""

    track: int


@dataclass(slots=True)
class Render:
    """A batch; each row is track, frame, loop index, alpha, offset and size in the ring."""

    batch: int
    rows: list[tuple[int, int, int, float, int, int]]


@dataclass(slots=True)
class Prepare:
    """Prepare the body in ``body_dir`` into ``out_dir``, in small steps while nothing live is due."""

    job: int
    body_dir: str
    out_dir: str
    settings: dict[str, str]


@dataclass(slots=True)
class CancelPrepare:
    """Nobody waits for it any more."""

    job: int


@dataclass(slots=True)
class Ping:
    """Are you there?"""

    number: int


@dataclass(slots=True)
class Devices:
    """Where this engine could draw, before it loads: name, settings and environment of each, its own first."""

    devices: list[tuple[str, dict[str, str], dict[str, str]]]


@dataclass(slots=True)
class Loading:
    """Progress of the engine's load."""

    progress: float
    sentence: str


@dataclass(slots=True)
class Loaded:
    """The engine can work. ``costs``: pairs of bucket and milliseconds."""

    info: dict[str, Any]
    costs: list[tuple[int, float]]
    own_body: str  # build of the engine's own body maker, "" where it has none


@dataclass(slots=True)
class Attached:
    """``rects``: one per loop index; ``largest`` holds them all."""

    avatar_id: str
    largest: tuple[int, int, int, int]
    rects: list[tuple[int, int, int, int]]
    nbytes: int


@dataclass(slots=True)
class Ready:
    """Frames of the track that can be rendered now; ``ended`` once its end is known to the engine. ``level``: how
    loud the voice is so far, where the engine tells."""

    track: int
    frames: int
    ended: bool
    level: float | None = None


@dataclass(slots=True)
class Rendered:
    """Results in the rows' order. ``ms``: what the batch took."""

    batch: int
    results: list[Answer]
    ms: float


@dataclass(slots=True)
class BatchLost:
    """The batch failed, the engine lives."""

    batch: int
    sentence: str


@dataclass(slots=True)
class PrepareStep:
    """Progress 0..1 of a preparation; 1 means that ``out_dir`` is complete."""

    job: int
    progress: float
    done: bool


@dataclass(slots=True)
class Failed:
    """Something asked for failed. ``what``: load, attach, prepare, track or engine; ``kind``: error class."""

    what: str
    key: str
    kind: str
    sentence: str


@dataclass(slots=True)
class Pong:
    """Here I am, with fresh figures."""

    number: int
    costs: list[tuple[int, float]]
    memory_used: int
    memory_total: int


Message = (
    Attach | Detach | OpenTrack | Append | EndTrack | CloseTrack | Render | Prepare | CancelPrepare | Ping
    | Devices | Loading | Loaded | Attached | Ready | Rendered | BatchLost | PrepareStep | Failed | Pong
)  # fmt: skip
codec = Codec[Message](*typing.get_args(Message))
