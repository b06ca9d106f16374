"""What monitoring refuses to compute."""


class MonitoringError(ValueError):
    """Something cannot be monitored as asked; the message says what, where and what to do."""
