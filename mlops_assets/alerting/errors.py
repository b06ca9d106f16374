"""What can go wrong with alerts. A message that cannot be sent is none of it: it is tried again."""


class AlertError(ValueError):
    """Alerts cannot be read, found or changed as asked; the message says why and what to do."""


class AlertsDeclarationError(AlertError):
    """Alerts are declared wrongly; the message names file, key, value and what is allowed."""


class AlertNotFoundError(AlertError):
    """There is no such alert, or more than one; the message says which come near."""
