"""A portrait's file as the source of an avatar: named at once, read and hashed beside the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from visavis.client.model import AvatarSource, FitMode


@dataclass(frozen=True)
class PortraitFile:
    """A portrait as calls show it: ``width`` x ``height`` pixels, ``fps`` pictures a second.

    ``mark`` tells one state of the file from another (time, size and inode; zeros where it is gone), so that a
    portrait which was put in place of another is another one.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    fit: FitMode
    mark: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def now(cls, path: Path, width: int, height: int, fps: Fraction, fit: FitMode) -> PortraitFile:
        """The file as it is; one system call, nothing is read."""
        try:
            about = path.stat()
        except OSError:
            return cls(path, width, height, fps, fit)
        return cls(path, width, height, fps, fit, (about.st_mtime_ns, about.st_size, about.st_ino))

    def source(self, image: bytes) -> AvatarSource:
        """With the bytes of the file, hashed: 24 to 33 ms for 20 MB, so not on the loop of the media clock."""
        source = AvatarSource(image, self.width, self.height, self.fps, self.fit)
        _ = source.digest
        return source

    async def read(self) -> AvatarSource:
        """Read and hashed in a thread; an empty image where the file is gone."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> AvatarSource:
        try:
            return self.source(self.path.read_bytes())
        except OSError:
            return self.source(b"")
