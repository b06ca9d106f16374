"""Security of the server: tokens, authentication, limits, what the log may say.

Here belongs what stands between the network and the app. What a request means, and whether its
content is right, belongs to the app.
"""

from mlops_assets.serving.security.authentication import ANONYMOUS, Authenticator, Caller
from mlops_assets.serving.security.binding import is_loopback, require_safe_binding
from mlops_assets.serving.security.errors import TokenError, UnsafeBindingError
from mlops_assets.serving.security.guard import Guard
from mlops_assets.serving.security.problems import (
    FieldProblem,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    MisdirectedError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    SlowRequestError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
    problem_of_status,
)
from mlops_assets.serving.security.redaction import guard_logs, redact
from mlops_assets.serving.security.state_file import StateFileError
from mlops_assets.serving.security.tokens import IssuedToken, Scope, Token, TokenSecret, TokenStore

__all__ = [
    "ANONYMOUS",
    "Authenticator",
    "Caller",
    "FieldProblem",
    "ForbiddenError",
    "Guard",
    "InternalError",
    "InvalidRequestError",
    "IssuedToken",
    "MisdirectedError",
    "NotFoundError",
    "OverloadedError",
    "RateLimitedError",
    "RequestError",
    "Scope",
    "SlowRequestError",
    "StateFileError",
    "Token",
    "TokenError",
    "TokenSecret",
    "TokenStore",
    "TooLargeError",
    "UnauthenticatedError",
    "UnsafeBindingError",
    "UnsupportedMediaTypeError",
    "guard_logs",
    "is_loopback",
    "problem_of_status",
    "redact",
    "require_safe_binding",
]
