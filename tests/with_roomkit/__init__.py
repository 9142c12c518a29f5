"""Against the real ``roomkit`` package, in its own environment: ``make test-roomkit``."""
