"""Lip-sync of any clip or recorded call, measured: ``python -m bench.lipsync clip.mp4``."""

from bench.lipsync.measure import Report, compare, measure
from bench.lipsync.target import Target

__all__ = ["Report", "Target", "compare", "measure"]
