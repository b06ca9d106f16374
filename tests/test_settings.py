"""Settings: typed, from the environment, and a wrong one is named with what is allowed."""

import traceback
from pathlib import Path

import pytest

from mlops_assets.settings import SettingsError, load_settings, unknown_variables


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MLOPS_THREADS", "many", "a whole number from 1 to 1024"),
        ("MLOPS_THREADS", "0", "a whole number from 1 to 1024"),
        ("MLOPS_THREADS", "1025", "a whole number from 1 to 1024"),
        ("MLOPS_MEMORY_LIMIT", "lots", "a text such as 4GiB or 512MiB"),
        ("MLOPS_EXECUTOR", "kubernetes", "'in_process' or 'multiprocess'"),
        ("MLOPS_SEED", "-1", "a whole number from 0 to 2147483647"),
    ],
)
def test_a_wrong_value_names_variable_value_origin_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert f"{variable}='{value}' (from the environment)" in message
    assert f"Allowed: {allowed}." in message


def test_a_wrong_line_of_the_projects_env_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("# ours\nMLOPS_SEED=1\n\nexport mlops_threads='0'\n")
    monkeypatch.setenv("MLOPS_PROJECT_ROOT", str(tmp_path))

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert f"MLOPS_THREADS='0' (from line 4 of {tmp_path / '.env'})" in str(caught.value)


def test_the_env_file_is_the_projects_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder, seed in ((root, 11), (elsewhere, 22)):
        folder.mkdir()
        (folder / ".env").write_text(f"MLOPS_SEED={seed}\n")
    monkeypatch.chdir(elsewhere)

    assert load_settings(project_root=root).seed == 11
    monkeypatch.setenv("MLOPS_PROJECT_ROOT", str(root))
    assert load_settings().seed == 11
    monkeypatch.setenv("MLOPS_SEED", "33")
    assert load_settings().seed == 33
    assert load_settings(seed=44).seed == 44


def test_a_value_that_is_not_json_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_LAKE_STORAGE_OPTIONS", "{secret: hunter2")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    shown = "".join(traceback.format_exception(caught.value))
    assert "MLOPS_LAKE_STORAGE_OPTIONS" in shown
    assert "is not JSON" in shown
    assert "hunter2" not in shown


def test_a_variable_that_nothing_reads_is_found_with_its_place_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MLOPS_SEED=1\nMLOPS_THREDS=2\nOTHER=3\n")
    monkeypatch.setenv("MLOPS_MEMORY_LIMITS", "4GiB")

    assert unknown_variables(tmp_path) == {
        "MLOPS_MEMORY_LIMITS": "from the environment; did you mean 'MLOPS_MEMORY_LIMIT'?",
        "MLOPS_THREDS": f"from line 2 of {tmp_path / '.env'}; did you mean 'MLOPS_THREADS'?",
    }


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
