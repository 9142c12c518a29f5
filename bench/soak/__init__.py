"""Calls that last: what grows with their length, their turns and their re-INVITEs (``python -m bench.soak``)."""
