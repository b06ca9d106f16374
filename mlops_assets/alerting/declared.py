"""Alerts as they are declared in YAML: where messages go, and what is worth one.

One ``defs.yaml`` of a project declares them. The address of a sink is a secret, so it is never in
there, only where to find it; `mlops_assets.alerting.sinks` reads it when something is to be sent.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, field_validator

from mlops_assets.alerting.errors import AlertsDeclarationError
from mlops_assets.alerting.occurrence import AlertKind, Occurrence, Severity
from mlops_assets.declaration import Declared, Problem, constraint, find_problems, unknown_name
from mlops_assets.declaration.files import DeclarationFileError, declared_attributes

COMPONENT = "mlops_assets.orchestration.alerts.AlertRules"
"""The ``type`` of the document that declares alerts."""

_NAME = r"^[a-z][a-z0-9_]*$"
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class AlertSink(Declared):
    """A place that messages go to: an address that Apprise understands, kept out of the YAML.

    E-mail, Slack, Teams, a webhook and some hundred others: https://appriseit.com lists them.
    """

    name: str = Field(
        pattern=_NAME, description="What rules call it.", examples=["on_call", "team_mail"]
    )
    url: str | None = Field(
        default=None,
        repr=False,  # somebody may have written the address itself
        description="The environment variable that holds its address, as `${NAME}`.",
        examples=["${ALERTS_ON_CALL_URL}"],
    )
    url_file: Path | None = Field(
        default=None,
        description="Or the file that holds it, and nothing else, such as a mounted secret.",
        examples=["/run/secrets/on-call-url"],
    )
    timeout: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(minutes=1),
        description="Longest that sending one message may take.",
        examples=["PT10S"],
    )

    @field_validator("url")
    @classmethod
    def _is_a_reference(cls, value: str | None) -> str | None:
        if value is not None and not _REFERENCE.fullmatch(value):
            raise ValueError(
                "holds an address, or a part of one, and an address is a secret; write ${NAME}, "
                "and give the environment variable NAME the address"
            )
        return value

    @constraint
    def _is_somewhere(self) -> Iterator[Problem]:
        if self.url is None and self.url_file is None:
            yield Problem((), "has no address; write `url: ${NAME}`, or a path as `url_file`.")
        if self.url is not None and self.url_file is not None:
            yield Problem(("url_file",), "and url exclude each other; leave one out.")


class AlertRule(Declared):
    """What is worth a message, and to whom. Everything that is said must hold."""

    name: str = Field(pattern=_NAME, description="Of the rule.", examples=["stale_data"])
    kinds: tuple[AlertKind, ...] = Field(min_length=1, description="Kinds of things it looks at.")
    assets: tuple[str, ...] = Field(
        default=(),
        description="Only about assets that match one of these, `*` for any text. Absent: all.",
        examples=[["raw/*"]],
    )
    families: tuple[str, ...] = Field(
        default=(),
        description="Only about model families that match one of these. Absent: all.",
        examples=[["flight_*"]],
    )
    subjects: tuple[str, ...] = Field(
        default=(),
        description="Only about subjects that match one of these: jobs, sensors, checks. "
        "Absent: all.",
        examples=[["*_sensor"]],
    )
    at_least: Severity = Field(
        default=Severity.info, description="Only what was noticed as at least this bad."
    )
    severity: Severity | None = Field(
        default=None, description="How bad such an alert is. Absent: as bad as it was noticed."
    )
    cooldown: timedelta = Field(
        default=timedelta(hours=4),
        ge=timedelta(0),
        description="Least time between two messages about the same subject, that it has ended "
        "and that it became worse excepted.",
        examples=["PT4H"],
    )
    sinks: tuple[str, ...] = Field(
        default=(),
        description="Where messages go, by name. Absent: to every sink.",
        examples=[["on_call"]],
    )

    @field_validator("sinks", "kinds", "assets", "families", "subjects")
    @classmethod
    def _are_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := _repeated(value):
            raise ValueError(f"names {value[repeated[0]]!r} twice")
        return value

    def matches(self, occurrence: Occurrence) -> bool:
        """Tell whether this is worth a message by this rule."""
        return (
            occurrence.kind in self.kinds
            and occurrence.severity.rank >= self.at_least.rank
            and _matches(self.assets, occurrence.asset)
            and _matches(self.families, occurrence.family)
            and _matches(self.subjects, occurrence.subject)
        )


class AlertsDeclaration(Declared):
    """Attributes of `AlertRules` in a ``defs.yaml``."""

    sinks: tuple[AlertSink, ...] = Field(
        default=(), description="Where messages go. None: alerts are kept, and nothing is sent."
    )
    alerts: tuple[AlertRule, ...] = Field(min_length=1, description="What is worth a message.")

    @constraint
    def _names_are_distinct(self) -> Iterator[Problem]:
        for place in _repeated([sink.name for sink in self.sinks]):
            name = self.sinks[place].name
            yield Problem(("sinks", place, "name"), f"{name!r} is another sink; rename one.")
        for place in _repeated([rule.name for rule in self.alerts]):
            name = self.alerts[place].name
            yield Problem(("alerts", place, "name"), f"{name!r} is another rule; rename one.")

    @constraint
    def _sinks_are_declared(self) -> Iterator[Problem]:
        known = [sink.name for sink in self.sinks]
        for place, rule in enumerate(self.alerts):
            for item, sink in enumerate(rule.sinks):
                if sink not in known:
                    yield Problem(
                        ("alerts", place, "sinks", item), unknown_name(sink, "declared sink", known)
                    )

    def sinks_of(self, rule: AlertRule) -> tuple[str, ...]:
        """Name the sinks that a rule's messages go to."""
        return rule.sinks or tuple(sink.name for sink in self.sinks)

    def rule(self, name: str) -> AlertRule | None:
        """Return the rule of a name; None if it is no longer declared."""
        return next((rule for rule in self.alerts if rule.name == name), None)


def declared_alerts(defs: Path) -> AlertsDeclaration | None:
    """Read how alerts are declared, without Dagster.

    Parameters
    ----------
    defs
        Folder of declarations.

    Returns
    -------
    AlertsDeclaration or None
        None where no file declares alerts.

    Raises
    ------
    AlertsDeclarationError
        When a file is no YAML, alerts are declared wrongly, or in two places.
    """
    found: dict[Path, AlertsDeclaration] = {}
    try:
        declared = declared_attributes(defs, COMPONENT)
    except DeclarationFileError as error:
        raise AlertsDeclarationError(str(error)) from error
    for path, attributes in declared:
        if problems := find_problems(AlertsDeclaration, attributes):
            raise AlertsDeclarationError(
                "\n".join(f"{path}: attributes.{problem}" for problem in problems)
            )
        if found:
            raise AlertsDeclarationError(
                f"{path}: declares alerts, and so does {next(iter(found))}; write the rules of "
                "both into one"
            )
        found[path] = AlertsDeclaration.model_validate(attributes)
    return next(iter(found.values()), None)


def _matches(patterns: tuple[str, ...], name: str | None) -> bool:
    return not patterns or (
        name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def _repeated(names: Sequence[str]) -> list[int]:
    """Return the places of names that stand before them already."""
    return [place for place, name in enumerate(names) if name in names[:place]]
