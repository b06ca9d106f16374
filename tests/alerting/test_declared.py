"""Alerts in YAML: what is wrong is said with its key, its value and what is allowed."""

from pathlib import Path
from textwrap import dedent

import pytest

from mlops_assets.alerting import AlertsDeclarationError, declared_alerts

GOOD = """
type: mlops_assets.orchestration.alerts.AlertRules
attributes:
  sinks:
    - {name: on_call, url: "${ON_CALL_URL}"}
    - {name: team_mail, url_file: /run/secrets/mail, timeout: PT20S}
  alerts:
    - {name: data, kinds: [failed_check, stale_asset], assets: [raw/*], cooldown: PT6H}
    - {name: models, kinds: [incident], severity: critical, sinks: [on_call]}
"""


def read(folder: Path, text: str) -> str:
    """Read a text as a declaration; what is wrong with it."""
    (folder / "defs.yaml").write_text(dedent(text))
    with pytest.raises(AlertsDeclarationError) as refused:
        declared_alerts(folder)
    return str(refused.value)


def test_a_declaration_is_found_beside_others(tmp_path: Path) -> None:
    assert declared_alerts(tmp_path) is None
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "defs.yml").write_text(GOOD)
    (tmp_path / "defs.yaml").write_text("type: other\nattributes: {}\n")
    found = declared_alerts(tmp_path)
    assert found is not None
    data, models = found.alerts
    assert found.sinks_of(data) == ("on_call", "team_mail")
    assert found.sinks_of(models) == ("on_call",)
    assert found.rule("data") is data
    assert found.rule("gone") is None
    (tmp_path / "defs.yaml").write_text(GOOD)
    with pytest.raises(AlertsDeclarationError, match=r"and so does .*write the rules of both"):
        declared_alerts(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("cooldown: PT6H", "cooldwn: PT6H", "alerts[0].cooldwn: unknown key; did you mean"),
        (
            "sinks: [on_call]",
            "sinks: [on_cal]",
            (
                "alerts[1].sinks[0]: 'on_cal' is no declared sink; did you mean 'on_call'? "
                "There are on_call, team_mail."
            ),
        ),
        (
            "kinds: [incident]",
            "kinds: [incidents]",
            "'failed_sensor', 'incident' or 'inference_log'",
        ),
        ("kinds: [incident]", "kinds: []", "alerts[1].kinds"),
        ("severity: critical", "severity: fatal", "'info', 'warning', 'error' or 'critical'"),
        ("name: models", "name: data", "alerts[1].name: 'data' is another rule; rename one."),
        ("name: team_mail", "name: on_call", "sinks[1].name: 'on_call' is another sink"),
        ("timeout: PT20S", "timeout: PT20M", "sinks[1].timeout"),
        ("timeout: PT20S", 'url: "${MAIL}"', "sinks[1].url_file: and url exclude each other"),
        (', url: "${ON_CALL_URL}"', "", "sinks[0]: has no address; write `url: ${NAME}`"),
        ("[raw/*]", "[raw/*, raw/*]", "names 'raw/*' twice"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in GOOD
    text = read(tmp_path, GOOD.replace(right, wrong))
    assert f"{tmp_path / 'defs.yaml'}: attributes." in text
    assert said in text


def test_an_address_in_the_yaml_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = read(tmp_path, GOOD.replace("${ON_CALL_URL}", "slack://T1/B2/hunter22"))
    assert "attributes.sinks[0].url: " in text
    assert "write ${NAME}" in text
    assert "hunter22" not in text


def test_a_file_that_is_no_yaml_is_said(tmp_path: Path) -> None:
    assert "cannot be read" in read(tmp_path, "a: [")
