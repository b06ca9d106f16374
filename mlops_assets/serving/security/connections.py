"""Connections that do not end: clients that never finish a request, and too many of them.

uvicorn limits how long a connection may idle between two requests, and nothing before the head of a
request is whole or after it has been refused. Here that is bounded too. What happens in between is
the guard's. This module imports uvicorn.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlops_assets.settings import ServeLimits

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


def bounded_protocol(limits: ServeLimits) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with an end to waiting: for ``uvicorn.Config(http=…)``.

    Parameters
    ----------
    limits
        Of this process; `idle_seconds` and `connections` are used.
    """

    class BoundedProtocol(HttpToolsProtocol):
        """Closes a connection that sends no whole head in time, and those beyond the most."""

        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.write(_FULL)
                transport.close()
                return
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            is_answering = self.cycle is not None and not self.cycle.response_complete
            if not is_answering and self._waiting is None:
                self._wait()

        def on_headers_complete(self) -> None:
            self._wait_no_longer()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_longer()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(limits.idle_seconds, self.transport.close)

        def _wait_no_longer(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return BoundedProtocol
