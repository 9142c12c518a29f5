"""The media path alone: CPU per video frame, and how late packets leave."""
