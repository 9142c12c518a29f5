"""MuseTalk on this machine, and the scheduler and server around any engine."""
