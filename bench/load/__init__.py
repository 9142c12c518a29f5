"""Many calls at once through the whole orchestrator."""
