"""From what the parts of the server notice to events of the inference log and lines of the log."""

import logging
from collections.abc import Mapping
from typing import Any

from mlops_assets.serving.inference_log import Event, EventKind, InferenceLog
from mlops_assets.serving.security.state_file import Report

_LOG = logging.getLogger(__name__)


def reporter(log: InferenceLog) -> Report:
    """Return a function that writes down what happened, for people now and for alerts later.

    Parameters
    ----------
    log
        Takes the events.
    """

    def report(kind: str, message: str, about: Mapping[str, Any]) -> None:
        _LOG.warning("%s: %s", kind, message)
        log.report(Event(EventKind(kind), message, about.get("family"), about.get("version")))

    return report
