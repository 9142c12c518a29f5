"""What a client shows to avatar servers, and how it knows them."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from visavis.service.listening import is_loopback
from visavis.service.security import fleet_file, read_token

if TYPE_CHECKING:
    import grpc

TOKEN = "VISAVIS_TOKEN"
TLS_CA = "VISAVIS_TLS_CA"
"""Environment variables of clients."""


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """A token, and files for TLS.

    ``token``, or the first one of ``token_file``, which is read anew for every request; without either the variable
    ``VISAVIS_TOKEN``, and for servers on this machine the file that they made themselves.

    ``tls_ca``: PEM file with the CAs of servers ("system" for those that the system knows; without it
    ``VISAVIS_TLS_CA``); with it gRPC is spoken over TLS, as HTTP is with ``https://``. ``tls_name`` is the name in
    the servers' certificate where it is not the one that they are found by (``dns:///`` finds addresses).
    ``tls_certificate`` and ``tls_key`` are our own, for servers that want one in place of a token.
    """

    token: str = field(default="", repr=False)
    token_file: str = ""
    tls_ca: str = ""
    tls_name: str = ""
    tls_certificate: str = ""
    tls_key: str = ""

    def authorization(self, address: str) -> str:
        """The ``Authorization`` header for the server at this address or URL, "" where there is no token."""
        token = self.token
        if not token and self.token_file:
            token = read_token(Path(self.token_file)).reveal()
        elif not token:
            token = os.environ.get(TOKEN, "")
            if not token and is_loopback(_host(address)):  # nobody else is ever sent what lies in that file
                token = read_token(fleet_file()).reveal()
        return f"Bearer {token}" if token else ""

    @property
    def ca(self) -> str:
        """The file with the servers' CAs, "system", or "" for no TLS."""
        return self.tls_ca or os.environ.get(TLS_CA, "")

    def check(self) -> None:
        """Raises ``ValueError`` with one sentence where a TLS file cannot be used."""
        self.for_http()

    def for_grpc(self) -> grpc.ChannelCredentials | None:
        """``None`` for a channel without TLS. Raises ``ValueError`` with one sentence on a file that is missing."""
        import grpc

        if not self.ca:
            return None
        root = None if self.ca == "system" else _read(self.ca)
        key, chain = (
            (_read(self.tls_key), _read(self.tls_certificate)) if self.tls_certificate else (None, None)
        )
        return grpc.ssl_channel_credentials(root, key, chain)

    def for_http(self) -> ssl.SSLContext | None:
        """For ``https://``; ``None`` for what it does by itself. Raises ``ValueError`` as above."""
        if not self.ca and not self.tls_certificate:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca if self.ca not in ("", "system") else None)
            if self.tls_certificate:
                context.load_cert_chain(self.tls_certificate, self.tls_key or None)
        except OSError as error:
            raise ValueError(f"a TLS file cannot be used ({error.strerror or error}): {self.ca}") from None
        return context


def credentials_of(token: str | None, credentials: ServerCredentials | None) -> ServerCredentials:
    """What a constructor's ``token`` and ``credentials`` come to. Raises ``ValueError`` where both are given."""
    if token and credentials is not None:
        raise ValueError("give the token, or the credentials with the token in them")
    return credentials or ServerCredentials(token=token or "")


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"the TLS file {file} cannot be read ({error.strerror})") from None


def _host(address: str) -> str:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""
