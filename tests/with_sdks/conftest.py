"""These tests need the vendors' own packages; without them they are not collected (``make test-sdks`` has them)."""

import importlib.util
import platform

platform.processor()  # which starts uname the first time somebody asks, as the clients do
_NEEDED = ("deepgram", "elevenlabs", "openai", "anthropic")
collect_ignore_glob = [] if all(map(importlib.util.find_spec, _NEEDED)) else ["*"]
