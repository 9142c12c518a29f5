"""Ports that others may reach: TLS, and the sentence for whoever opens one."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def exposure(what: str, host: str, prefix: str, *, insecure: bool, tls: bool) -> str:
    """One sentence for whoever opens a port to others, "" where there is nothing to say.

    ``what`` listens on ``host``; ``prefix`` is that of the settings that help.
    """
    if insecure:
        who = "every program of this machine" if is_loopback(host) else "everybody who reaches this machine"
        return (
            f"{what} on {host} wants no credentials: {who} may use it. Set {prefix}INSECURE to false as soon as "
            "all clients send a token."
        )
    if tls or is_loopback(host):
        return ""
    return (
        f"{what} listens on {host} without TLS, so that whoever is on the way can read its tokens: keep it inside "
        f"a private network, or set {prefix}TLS_CERTIFICATE and {prefix}TLS_KEY."
    )


@dataclass(frozen=True)
class Tls:
    """Files of a TLS listener, PEM: ours, and the CAs of clients where each needs a certificate."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""

    def __bool__(self) -> bool:
        return bool(self.certificate)

    def check(self) -> None:
        """Raises ``ValueError`` where the files do not belong together or cannot be used: one sentence."""
        if bool(self.certificate) != bool(self.key):
            raise ValueError("a TLS certificate and its key go together")
        if self.client_ca and not self.certificate:
            raise ValueError("a CA for clients' certificates needs a certificate of ours")
        if self:
            self.context()

    def context(self) -> ssl.SSLContext:
        """For a server. Raises ``ValueError`` with one sentence where a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = self.certificate
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca:
                file = self.client_ca
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"the TLS file {file} cannot be used ({error.strerror or error})") from None
        return context
