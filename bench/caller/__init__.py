"""A small SIP video phone that records what it receives; shares no code with the orchestrator."""

from bench.caller.phone import CallFailed, Phone
from bench.caller.recording import Recording

__all__ = ["CallFailed", "Phone", "Recording"]
