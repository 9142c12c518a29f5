"""Against the real ``livekit-agents`` package, in its own environment: ``make test-livekit``."""
