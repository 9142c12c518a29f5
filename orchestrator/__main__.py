"""``python -m orchestrator``: answers calls until it is told to stop."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load ends it without a trace

import asyncio
import sys

from visavis.service.extras import missing_extra

try:
    from orchestrator.app import App
    from orchestrator.assistants.base import AssistantError
    from orchestrator.calls.portraits import AvatarError
    from orchestrator.config import load_settings
    from orchestrator.worker.pool import NoRoom
    from visavis.service.acceptor import raise_descriptor_limit
    from visavis.service.logs import configure_logging
except ModuleNotFoundError as error:
    raise SystemExit(missing_extra(error, "the orchestrator", "orchestrator")) from None


def main() -> None:
    """Exit status 0 after an orderly end, 1 when it cannot start, 2 for a wrong setting."""
    settings = load_settings()
    configure_logging(settings.log_level, numbers=settings.log_numbers == "whole")

    raise_descriptor_limit()

    async def serve() -> None:
        await App(settings).run()

    try:
        asyncio.run(serve())
    except (OSError, NoRoom, AvatarError, AssistantError) as error:
        print(f"visavis orchestrator: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
