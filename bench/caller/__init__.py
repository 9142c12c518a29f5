"""A small SIP video phone that records what it receives; shares no code with the orchestrator."""

from bench.caller.phone import Phone
from bench.caller.recording import Recording
from bench.caller.signalling import CallFailed

__all__ = ["CallFailed", "Phone", "Recording"]
