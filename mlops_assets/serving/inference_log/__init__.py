"""The inference log: every answer is on disk before it leaves, and becomes one row of the lake.

Import from here what a worker needs to write; it is light. What makes rows of the segments needs
the lake, and is in `mlops_assets.serving.inference_log.shipping`. What belongs in this package is
the way of an answer from a worker to the table ``inference/<family>``.
"""

from mlops_assets.serving.inference_log.answered import Answered, LoggedModel
from mlops_assets.serving.inference_log.errors import (
    InferenceLogError,
    LogFullError,
    NotDeclaredError,
    ShippingError,
)
from mlops_assets.serving.inference_log.events import Event, EventKind
from mlops_assets.serving.inference_log.log import (
    RESERVED_FAMILY,
    InferenceLog,
    Kept,
    LogStatus,
)
from mlops_assets.serving.inference_log.segments import Waiting, waiting_segments
from mlops_assets.settings import WhenLogFull as WhenFull

__all__ = [
    "RESERVED_FAMILY",
    "Answered",
    "Event",
    "EventKind",
    "InferenceLog",
    "InferenceLogError",
    "Kept",
    "LogFullError",
    "LogStatus",
    "LoggedModel",
    "NotDeclaredError",
    "ShippingError",
    "Waiting",
    "WhenFull",
    "waiting_segments",
]
