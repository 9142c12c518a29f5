"""On ``PYTHONPATH`` of a server under test: its engine processes find GPUs. See ``tests/support/gpus.py``."""

import os
import sys

if "inference_server.engine.worker" in sys.orig_argv and "VISAVIS_TEST_GPUS" not in os.environ:
    raise SystemExit("PYTHONPATH has the stand-in of CUDA, and VISAVIS_TEST_GPUS does not say how it behaves")
if "inference_server.engine.worker" in sys.orig_argv:
    from tests.support.gpus import appear

    appear()
