"""Lip-sync of clips, engines and whole calls by the metric of ``inference_server.lipsync``.

``python -m bench.lipsync clip.mp4`` measures any clip or recorded call.
"""
