"""Pipecat with a face: a video service that stands between text to speech and the output transport."""

from __future__ import annotations

try:
    from visavis.pipecat.service import VisavisVideoService
except ImportError as e:
    raise ImportError(
        "visavis.pipecat needs Pipecat: pip install '.[pipecat]' in a checkout of Visavis"
    ) from e

__all__ = ["VisavisVideoService"]
