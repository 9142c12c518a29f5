"""Lip-sync of a clip, measured: what the lips in the pictures do against what is heard."""

from inference_server.lipsync.measure import LipSyncReport, compare, measure
from inference_server.lipsync.target import Target

__all__ = ["LipSyncReport", "Target", "compare", "measure"]
