"""Real places that messages arrive at, on this machine: a mail server and a webhook."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Mailbox:
    """What the mail server has taken."""

    address: str = ""
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 taken"


@contextmanager
def mail_server(port: int) -> Iterator[Mailbox]:
    """Run a mail server on loopback for the length of the block."""
    box = Mailbox(
        f"mailto://localhost:{port}?smtp=127.0.0.1&from=mlops@example.com&to=on-call@example.com"
    )
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@dataclass
class Hook:
    """What the webhook has been sent, and how it answers: when ``may_answer`` is set."""

    address: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    asked: Event = field(default_factory=Event)
    may_answer: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.may_answer.set()


@contextmanager
def webhook(port: int = 0) -> Iterator[Hook]:
    """Run a webhook on loopback for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.asked.set()
            hook.may_answer.wait(10)
            if hook.status == 200:
                hook.calls.append(json.loads(body))
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    hook = Hook(f"json://127.0.0.1:{server.server_port}/hook-secret-path")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
