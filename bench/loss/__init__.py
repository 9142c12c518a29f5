"""Calls over a lossy path: our phone, GStreamer's rtpbin, and the beat of the voice beside repetitions."""
