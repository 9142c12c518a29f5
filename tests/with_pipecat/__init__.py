"""Against the real ``pipecat-ai`` package, in its own environment: ``make test-pipecat``."""
