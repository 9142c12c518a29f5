"""These tests need Pipecat; without it they are not collected (``make test-pipecat`` has it)."""

import importlib.util
import warnings

collect_ignore_glob = ["*"]
if importlib.util.find_spec("pipecat"):
    collect_ignore_glob = []
    with warnings.catch_warnings():  # of its own imports: audioop
        warnings.simplefilter("ignore")
        importlib.import_module("pipecat.frames.frames")
