"""Places that messages go to: reading their addresses, and sending one message through Apprise.

An address is a secret. It is read here, at the last moment, and nothing here shows a part of it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mlops_assets.alerting.declared import AlertSink
from mlops_assets.alerting.message import Text
from mlops_assets.alerting.occurrence import Severity, shortened
from mlops_assets.declaration import without_secrets

if TYPE_CHECKING:
    from apprise import AppriseResult, NotifyBase

_SHORTEST_SECRET = 4
_HIDDEN = "***"


@dataclass(frozen=True)
class Sink:
    """A declared sink with its address, or with why it has none.

    Attributes
    ----------
    name
        What rules call it.
    timeout
        Longest that sending may take.
    problem
        Why nothing can be sent there as it is set up now; None if something can.
    """

    name: str
    timeout: timedelta
    problem: str | None
    _url: str = field(default="", repr=False)

    @classmethod
    def of(cls, declared: AlertSink, environment: Mapping[str, str] | None = None) -> "Sink":
        """Read the address of a declared sink.

        Parameters
        ----------
        declared
            As it is declared.
        environment
            Variables. Default: those of this process.
        """
        url, problem = _address(declared, os.environ if environment is None else environment)
        if problem is None and _service(url) is None:
            # What is wrong with it is not said: it would quote the address.
            problem = (
                f"{_place(declared)} holds no address that Apprise understands; "
                "https://appriseit.com shows how each service's is written"
            )
        return cls(declared.name, declared.timeout, problem, url)

    def send(self, text: Text, within: float | None = None) -> str | None:
        """Send one message.

        Parameters
        ----------
        text
            The message.
        within
            Longest that it may take, in seconds, where that is less than the sink's own timeout.

        Returns
        -------
        str or None
            Why it was not sent; None if it was.
        """
        if self.problem is not None:
            return self.problem
        from apprise import Apprise, NotifyFormat

        service = _service(self._url)
        if service is None:
            return f"the address of {self.name} is no longer understood"
        timeout = self.timeout.total_seconds()
        timeout = timeout if within is None else min(timeout, within)
        with Apprise(service).notify(
            body=text.body,
            title=text.title,
            notify_type=_notify_type(text.severity),
            body_format=NotifyFormat.TEXT,
            timeout=timeout,
        ) as result:
            return None if result else self._why(result, timeout)

    def _why(self, result: "AppriseResult", timeout: float) -> str:
        from apprise.result import AppriseResultStatus

        if result.status is AppriseResultStatus.TIMEOUT:
            return f"no answer within {round(timeout, 1):g} s"
        said = "; ".join(dict.fromkeys(entry.message for entry in result.logs()))
        return shortened(self._scrubbed(said)) or "refused, without a reason"

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(_parts(self._url), key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return without_secrets(text)


def open_sinks(
    declared: Iterable[AlertSink], environment: Mapping[str, str] | None = None
) -> dict[str, Sink]:
    """Read the addresses of sinks, by name; see `Sink.of`."""
    return {sink.name: Sink.of(sink, environment) for sink in declared}


def _address(declared: AlertSink, environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the address, or an empty one and why there is none."""
    if declared.url_file is None:
        url = environment.get(str(declared.url)[2:-1], "").strip()
    else:
        try:
            url = declared.url_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            return "", f"{_place(declared)} cannot be read: {reason}"
    return url, None if url else f"{_place(declared)} is not set; give it the address of the sink"


def _place(declared: AlertSink) -> str:
    if declared.url_file is not None:
        return f"the file {declared.url_file}"
    return f"the environment variable {str(declared.url)[2:-1]}"


def _service(url: str) -> "NotifyBase | None":
    from apprise import Apprise

    return Apprise.instantiate(url, suppress_exceptions=True)


def _parts(url: str) -> set[str]:
    """Return what an address is made of, but for its scheme and its host, which say where it is."""
    _, _, rest = url.partition("://")
    before, at, after = rest.rpartition("@")
    _host, *inner = re.split(r"[/?&=]", after)
    parts = {*re.split(r"[:/?&=]", before if at else ""), *inner, url}
    spelt = parts | {unquote(part) for part in parts}
    return {part for part in spelt if len(part) >= _SHORTEST_SECRET}


def _notify_type(severity: Severity | None) -> str:
    return {
        None: "success",
        Severity.info: "info",
        Severity.warning: "warning",
    }.get(severity, "failure")
