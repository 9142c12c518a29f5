"""Credentials that tests use, in one place: what a client sends, and the files that services read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visavis.client.credentials import ServerCredentials
from visavis.service.security import API_SCOPES, Guard, Tokens

API_TOKEN = "visavis_of-the-tests-for-the-api"
FLEET_TOKEN = "visavis_of-the-tests-for-the-fleet"
API = {"Authorization": f"Bearer {API_TOKEN}"}
FLEET = {"Authorization": f"Bearer {FLEET_TOKEN}"}


def token_of(*scopes: str) -> str:
    """The token that has these scopes and no others, in the files that are written here."""
    return "visavis_with-scopes-" + "+".join(scopes).replace(":", "-")


def write_tokens(path: Path, everything: str, scopes: Sequence[str]) -> Path:
    """A token file: ``everything`` may do all, and there is one token for each scope."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    lines = [f"{everything} * tests", *(f"{token_of(scope)} {scope} {scope}" for scope in scopes)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def local_token() -> str:
    """The token of this machine's inference servers, whoever made it: also outside of tests, in ``bench/``."""
    return ServerCredentials().authorization("127.0.0.1").removeprefix("Bearer ")


def local_headers() -> dict[str, str]:
    """Of an HTTP request to one of them."""
    return {"Authorization": f"Bearer {local_token()}"}


class SignedStub:
    """A gRPC stub each of whose calls brings the token of this machine's servers."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.metadata = (("authorization", f"Bearer {local_token()}"),)

    def __getattr__(self, name: str) -> Any:
        return functools.partial(getattr(self._stub, name), metadata=self.metadata)


def api_tokens(folder: Path) -> Path:
    """The API's token file below a data directory."""
    return write_tokens(folder / "tokens" / "api", API_TOKEN, API_SCOPES)


def api_guard(folder: Path) -> Guard:
    """As the API has one."""
    return Guard(Tokens(api_tokens(folder), API_SCOPES), API_SCOPES, "see visavis-token.")
