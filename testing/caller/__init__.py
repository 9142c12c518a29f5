"""A small SIP video phone that records what it receives; shares no code with the orchestrator."""

from testing.caller.phone import Phone
from testing.caller.recording import Recording
from testing.caller.signalling import CallFailed

__all__ = ["CallFailed", "Phone", "Recording"]
