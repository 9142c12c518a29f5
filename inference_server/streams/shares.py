"""What one client may hold of a thing that others want, too. Sans-IO."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def beyond_share(client: str, held: Mapping[str, int], present: Collection[str], total: int) -> bool:
    """Whether ``client`` has to wait although something of ``total`` is left.

    ``held`` is what each client holds. While three quarters are taken, a client gets no more than ``total`` by the
    number of those ``present``; a client that is alone may have everything.
    """
    clients = {client, *present}
    crowded = 4 * sum(held.values()) >= 3 * total
    return len(clients) > 1 and crowded and (held.get(client, 0) + 1) * len(clients) > total
