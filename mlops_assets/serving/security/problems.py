"""What a caller is told when a request is not answered: problem documents (RFC 9457).

Raised anywhere while a request is answered, such an error becomes its status, its headers and an
``application/problem+json`` document with `type`, `title`, `status`, `detail` and, where fields are
at fault, `errors`. Nothing here quotes what a caller sent: a document may end up in any log.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

import msgspec

MEDIA_TYPE = "application/problem+json"

Headers = Sequence[tuple[bytes, bytes]]

_TYPE = "urn:mlops-assets:problem:"
_CHALLENGE = 'Bearer realm="mlops"'


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a request.

    Attributes
    ----------
    field
        Where it stands, such as ``rows[3].distance``.
    kind
        What was sent there, such as ``text`` or ``missing``; not the value.
    expected
        What belongs there.
    """

    field: str
    kind: str
    expected: str


class RequestError(Exception):
    """A request that is not answered with what it asks for.

    Parameters
    ----------
    detail
        One or two sentences: what is wrong with this request, and what to do.
    errors
        Fields at fault.
    headers
        Further headers of the answer, their names in lower case.
    """

    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    title = "The request cannot be understood"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Headers = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = tuple(headers)

    def document(self) -> dict[str, object]:
        """Return the problem document."""
        document: dict[str, object] = {
            "type": _TYPE + self.slug,
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [asdict(error) for error in self.errors]
        return document

    def body(self) -> bytes:
        """Return the problem document as JSON."""
        return msgspec.json.encode(self.document())


class InvalidRequestError(RequestError):
    """The request can be read, and what it says is wrong."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-request"
    title = "The request is not valid"


class UnauthenticatedError(RequestError):
    """Nobody known is asking.

    Parameters
    ----------
    detail
        What is wrong with the credentials, and what to do.
    reason
        What the challenge says of a token that was sent (RFC 6750, section 3); nothing of none.
    """

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthenticated"
    title = "A valid token is needed"

    def __init__(self, detail: str, *, reason: str = "") -> None:
        said = f', error="invalid_token", error_description="{reason}"' if reason else ""
        super().__init__(detail, headers=((b"www-authenticate", (_CHALLENGE + said).encode()),))


class ForbiddenError(RequestError):
    """Somebody known is asking for what their token is not for.

    Parameters
    ----------
    detail
        What it is not for.
    scope
        What it would have to be for.
    """

    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"
    title = "The token is not for this"

    def __init__(self, detail: str, *, scope: str) -> None:
        challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
        super().__init__(detail, headers=((b"www-authenticate", challenge.encode()),))


class NotFoundError(RequestError):
    """There is nothing under this name."""

    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    title = "There is nothing there"


class SlowRequestError(RequestError):
    """The request's body took too long to arrive; its connection is of no further use."""

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "slow-request"
    title = "The request took too long to arrive"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers=((b"connection", b"close"),))


class TooLargeError(RequestError):
    """The request is larger than one may be."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    title = "The request is too large"


class UnsupportedMediaTypeError(RequestError):
    """The body is of a kind that is not read here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"
    title = "The body's media type is not read here"


class MisdirectedError(RequestError):
    """The request names another host than this server answers for."""

    status = HTTPStatus.MISDIRECTED_REQUEST
    slug = "misdirected"
    title = "The request is for another host"


class TryAgainError(RequestError):
    """A request that may succeed later.

    Parameters
    ----------
    detail
        Why not now.
    after
        Seconds after which to try again; told in whole ones (RFC 9110), at least one.
    """

    def __init__(self, detail: str, *, after: float = 1.0) -> None:
        seconds = max(1, math.ceil(after))
        super().__init__(detail, headers=((b"retry-after", str(seconds).encode()),))


class RateLimitedError(TryAgainError):
    """A caller asks more often than it may."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "rate-limited"
    title = "Too many requests"


class OverloadedError(TryAgainError):
    """The server has as much to do as it may have."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "overloaded"
    title = "The server is busy"


class InternalError(RequestError):
    """The server itself is at fault."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "internal-error"
    title = "The server failed"


def problem_of_status(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> RequestError:
    """Return the problem for a status that a web framework chose, such as 405.

    Parameters
    ----------
    status
        An HTTP status from 400.
    detail
        What is wrong.
    headers
        Of the answer, such as ``Allow``.
    """
    known = HTTPStatus(status)
    pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    if known is HTTPStatus.NOT_FOUND:
        return NotFoundError(detail, headers=pairs)
    problem = RequestError(detail, headers=pairs)
    problem.status, problem.title = known, known.phrase
    problem.slug = known.phrase.lower().replace(" ", "-")
    return problem
