"""Failures of a fleet of inference servers under real calls: `python -m bench.fleet`."""
