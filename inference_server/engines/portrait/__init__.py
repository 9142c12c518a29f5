"""A talking portrait from one picture, with no GPU and no download."""

from inference_server.engines.portrait.engine import PortraitEngine

__all__ = ["PortraitEngine"]
