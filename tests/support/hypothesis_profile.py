"""Property tests on a loaded machine: no deadline for one example, and slow generation is no fault."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")
