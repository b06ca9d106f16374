"""What keeps the server from being safe: errors for whoever operates it, not for its callers.

What a caller of the server is told stands in `mlops_assets.serving.security.problems`.
"""


class TokenError(ValueError):
    """A token cannot be made, rotated or revoked as asked. Nothing has changed."""


class UnsafeBindingError(ValueError):
    """The server was asked to listen to other machines without any token."""
