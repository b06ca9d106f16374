"""What can be wrong with who answers which request."""


class TrafficError(ValueError):
    """A switch of the traffic cannot be made as asked. Nothing has changed."""
