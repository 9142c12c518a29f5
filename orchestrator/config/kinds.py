"""Kinds of values that several settings share."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from orchestrator.nameserver import split_address


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_networks(value: list[str]) -> list[str]:
    for network in value:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(f"'{network}' is not a network: write it as 10.0.0.0/8") from None
    return value


def _networks_or_none(value: list[str]) -> list[str]:
    return value if value == ["none"] else _check_networks(value)


def _empty(value: object) -> object:
    return value or None


def _expand(value: Path | None) -> Path | None:
    return value.expanduser() if value else None


def _check_nameserver(value: str) -> str:
    if value:
        split_address(value)
    return value


split_commas = BeforeValidator(_split)
"""Texts stand with commas between them."""

CommaList = Annotated[list[str], split_commas]
"""Texts with commas between them."""

Networks = Annotated[CommaList, AfterValidator(_check_networks)]
"""IP networks and addresses."""

NetworksOrNone = Annotated[CommaList, AfterValidator(_networks_or_none)]
"""The same, or the word ``none``."""

OptionalPath = Annotated[Path | None, BeforeValidator(_empty), AfterValidator(_expand)]
"""A path, whose ``~`` is the home directory; ``None`` for an empty text."""

Nameserver = Annotated[str, AfterValidator(_check_nameserver)]
"""A DNS server, ip or ip:port; empty for the system's."""
