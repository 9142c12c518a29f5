"""These tests need RoomKit; without it they are not collected (``make test-roomkit`` has it)."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("roomkit") else ["*"]
