"""The floor of `serving.py`: one ASGI function, orjson, the model, and nothing else.

No routes, no validation, no tokens, no metrics, no log: what is left when all that a model server
does is taken away.
"""

from typing import Any

import orjson
from serving_model import BareModel

_MODEL = BareModel.of_this_process()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer any POST with one probability a row."""
    if scope["type"] != "http":
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    answers = _MODEL.probabilities(orjson.loads(b"".join(parts))["rows"])
    body = orjson.dumps({"predictions": answers})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
