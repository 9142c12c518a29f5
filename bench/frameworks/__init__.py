"""How far a face is behind its voice in LiveKit and in Pipecat; :mod:`bench.roomkit.lag` measures it in RoomKit."""
