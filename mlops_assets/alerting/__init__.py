"""Alerts: from something that was noticed to a message that somebody reads, and a record of both.

Import from here. What belongs in this package is what becomes of an occurrence: which rule it
matches, whether it is new, who is told and when. Who notices is elsewhere: sensors, monitoring, the
gate, the model server. It knows neither Dagster nor models.
"""

from mlops_assets.alerting.alert import Alert, AlertState, Delivery
from mlops_assets.alerting.book import AlertBook
from mlops_assets.alerting.declared import (
    AlertRule,
    AlertsDeclaration,
    AlertSink,
    declared_alerts,
)
from mlops_assets.alerting.delivering import Deliveries, Sent, deliver
from mlops_assets.alerting.errors import AlertError, AlertNotFoundError, AlertsDeclarationError
from mlops_assets.alerting.log import LOG, Change, Message, Transition
from mlops_assets.alerting.message import TEST_TEXT, Text
from mlops_assets.alerting.occurrence import AlertKind, Occurrence, Severity
from mlops_assets.alerting.serving_events import record_serving_events
from mlops_assets.alerting.sinks import Sink, open_sinks
from mlops_assets.alerting.unrecorded import Unrecorded

__all__ = [
    "LOG",
    "TEST_TEXT",
    "Alert",
    "AlertBook",
    "AlertError",
    "AlertKind",
    "AlertNotFoundError",
    "AlertRule",
    "AlertSink",
    "AlertState",
    "AlertsDeclaration",
    "AlertsDeclarationError",
    "Change",
    "Deliveries",
    "Delivery",
    "Message",
    "Occurrence",
    "Sent",
    "Severity",
    "Sink",
    "Text",
    "Transition",
    "Unrecorded",
    "declared_alerts",
    "deliver",
    "open_sinks",
    "record_serving_events",
]
