"""Settings: typed, from the environment, and a wrong one is named with what is allowed."""

from pathlib import Path

import pytest

from mlops_assets.settings import SettingsError, load_settings


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MLOPS_THREADS", "many", "valid integer"),
        ("MLOPS_THREADS", "0", "greater than or equal to 1"),
        ("MLOPS_MEMORY_LIMIT", "lots", "GiB"),
        ("MLOPS_EXECUTOR", "kubernetes", "'in_process' or 'multiprocess'"),
        ("MLOPS_SEED", "-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_names_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert f"{variable}='{value}'" in message
    assert allowed in message


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_THREADS", "many")
    monkeypatch.setenv("MLOPS_SEED", "none")

    with pytest.raises(SettingsError, match=r"MLOPS_THREADS(.|\n)*MLOPS_SEED"):
        load_settings()


def test_everything_lies_below_home_by_default(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "state")

    assert settings.lake_uri == str(tmp_path / "state" / "lake")
    assert settings.dagster_home == tmp_path / "state" / "dagster"
    assert str(tmp_path) in settings.tracking_uri
    assert str(tmp_path) in settings.artifact_uri


def test_credentials_are_not_shown(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, lake_storage_options={"secret": "hunter2"})

    assert "hunter2" not in repr(settings)


def test_a_file_cannot_be_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match=r"MLOPS_HOME=.*is a file; name a folder"):
        load_settings(home=tmp_path / "file")
