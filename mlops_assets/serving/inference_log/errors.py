"""What can go wrong with the inference log, one class for one thing a caller may want to handle."""


class InferenceLogError(Exception):
    """Base of every error of the inference log: says what, where and what to do next."""


class NotDeclaredError(InferenceLogError, ValueError):
    """A prediction is of a model, or has columns or shapes, that were not declared to the log."""


class LogFullError(InferenceLogError, OSError):
    """The log cannot be written, so under `WhenFull.refuse` the answer must not leave.

    Attributes
    ----------
    retry_after
        Seconds after which it is worth to ask again.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShippingError(InferenceLogError):
    """Segments cannot become rows of the lake; they stay where they are."""
