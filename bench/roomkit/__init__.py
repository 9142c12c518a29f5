"""Visavis under RoomKit, in the environment of ``make test-roomkit``."""
