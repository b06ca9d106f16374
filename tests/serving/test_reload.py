"""Another champion under running requests; and models and files that must not come to serve."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from mlops_assets.lake import Lake
from mlops_assets.registry import Alias, ModelReference, Registry, promotion
from mlops_assets.serving.deployment import (
    FILE,
    DeployedVersion,
    Deployment,
    read_deployment,
    write_deployment,
)
from mlops_assets.serving.families import Families
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.inference_log.contents import read_contents
from mlops_assets.serving.inference_log.segments import finished_segments
from mlops_assets.serving.inputs import Policy
from mlops_assets.serving.security.state_file import StateFileError
from mlops_assets.serving.served import ModelRefusedError, load_served
from mlops_assets.settings import Settings, load_settings
from tests.demo import copy_home
from tests.servers import wait_until
from tests.serving.conftest import client_of
from tests.serving.world import World, follower

FAMILY = "late_flights"


def deploy(
    folder: Path, *, champion: DeployedVersion, challenger: DeployedVersion | None = None
) -> None:
    before = read_deployment(folder)
    family = msgspec.structs.replace(
        before.families[FAMILY], champion=champion, challenger=challenger
    )
    write_deployment(folder, Deployment({**before.families, FAMILY: family}))


def model_of(client: TestClient, row: dict[str, Any]) -> str:
    answer = client.post(f"/models/{FAMILY}/predict", json={"rows": [row]})
    assert answer.status_code == 200, answer.text
    model: str = answer.json()["model"]
    return model


def events_in(folder: Path) -> list[tuple[str, str | None, int | None]]:
    contents = read_contents(list(finished_segments(folder)))
    return [
        (event["kind"], event["family"], event["version"])
        for events in contents.events
        for event in events.to_pylist()
    ]


@pytest.fixture
def row(world: World) -> dict[str, Any]:
    [found] = world.features(FAMILY, 1).to_pylist()
    return found


# Workers -----------------------------------------------------------------------------------------


def test_the_champion_changes_under_requests_and_none_of_them_notices(
    world: World, settings: Settings
) -> None:
    folder = settings.home / "serving"
    rows = world.features(FAMILY, 4)
    sent = {"rows": rows.to_pylist()}
    expected = {f"{FAMILY}/{n}": world.answers(f"{FAMILY}/{n}", rows).tolist() for n in (1, 2)}
    deployed = read_deployment(folder).families[FAMILY]
    assert deployed.challenger is not None
    versions = [deployed.champion, deployed.challenger]
    answered: list[list[str]] = [[], [], []]
    stopped = threading.Event()

    def ask(client: TestClient, mine: list[str]) -> None:
        while not stopped.is_set():
            answer = client.post(f"/models/{FAMILY}/predict", json=sent)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert [p["probability"] for p in body["predictions"]] == expected[body["model"]]
            mine.append(body["model"])

    with client_of(settings) as client, ThreadPoolExecutor(len(answered)) as pool:
        asking = [pool.submit(ask, client, mine) for mine in answered]
        try:
            for change in range(1, 5):
                now = versions[change % 2]
                # Without the other it is loaded anew, as a version that was never seen is.
                deploy(folder, champion=now)
                name = f"{FAMILY}/{now.version}"
                wait_until(
                    lambda name=name: (
                        all(mine and mine[-1] == name for mine in answered)
                        or any(each.done() for each in asking)
                    ),
                    f"{name} answers everybody",
                    seconds=60,
                )
        finally:
            stopped.set()
        for each in asking:
            each.result()
    for mine in answered:
        changes = [one for one, other in zip(mine, [None, *mine], strict=False) if one != other]
        assert changes[-4:] == [f"{FAMILY}/{n}" for n in (2, 1, 2, 1)]


@pytest.fixture
def another(settings: Settings) -> DeployedVersion:
    """A third version, equal to the second, whose files can be changed before it is deployed."""
    folder = settings.home / "serving"
    challenger = read_deployment(folder).families[FAMILY].challenger
    assert challenger is not None
    shutil.copytree(folder / challenger.folder, folder / "models" / FAMILY / "3")
    return msgspec.structs.replace(challenger, version=3, folder=f"models/{FAMILY}/3")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill_with_nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


@pytest.mark.parametrize("damage", [cut, fill_with_nonsense, Path.unlink])
@pytest.mark.parametrize(
    "name", ["estimator.json", "model.cb", "input_contract.json", "example.parquet"]
)
def test_a_version_whose_files_are_damaged_does_not_load(
    world: World, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(world.folder / "models" / FAMILY / "2", folder)
    load_served(FAMILY, 2, folder, threshold=None, policy=Policy())
    [path] = folder.rglob(name)
    damage(path)
    with pytest.raises(ModelRefusedError, match="late_flights/2 cannot serve"):
        load_served(FAMILY, 2, folder, threshold=None, policy=Policy())


def test_a_version_whose_contract_is_of_other_features_does_not_load(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(world.folder / "models" / FAMILY / "2", folder)
    [other] = (world.folder / "models" / "outcomes" / "1").rglob("input_contract.json")
    [path] = folder.rglob("input_contract.json")
    shutil.copy(other, path)
    with pytest.raises(ModelRefusedError, match="input contract is of"):
        load_served(FAMILY, 2, folder, threshold=None, policy=Policy())


def change_an_answer(folder: Path) -> None:
    import pyarrow.parquet as pq

    [path] = folder.rglob("example.parquet")
    table = pq.read_table(path)
    answers = np.array(table["@answer"].to_pylist())
    answers[3] += 0.01
    place = table.column_names.index("@answer")
    pq.write_table(table.set_column(place, "@answer", pa.array(answers)), path)


def remove_the_model(folder: Path) -> None:
    [path] = folder.rglob("model.cb")
    path.unlink()


@pytest.mark.parametrize("role", ["champion", "challenger"])
@pytest.mark.parametrize("damage", [change_an_answer, remove_the_model, shutil.rmtree])
def test_a_version_that_cannot_serve_is_refused_and_the_old_one_goes_on(
    settings: Settings,
    another: DeployedVersion,
    row: dict[str, Any],
    damage: Callable[[Path], None],
    role: str,
) -> None:
    folder = settings.home / "serving"
    champion = read_deployment(folder).families[FAMILY].champion
    damage(folder / another.folder)
    with client_of(settings) as client:
        assert model_of(client, row) == f"{FAMILY}/1"
        if role == "champion":
            deploy(folder, champion=another)
        else:
            deploy(folder, champion=champion, challenger=another)
        # What is deployed after it shows that it was looked at.
        wait_until(
            lambda: (
                client.get(f"/models/{FAMILY}").json()["champion"]["version"] == 1
                and refusals(settings)
            ),
            "the version is refused",
            seconds=30,
        )
        assert model_of(client, row) == f"{FAMILY}/1"
        about = client.get(f"/models/{FAMILY}").json()
        if role == "challenger":
            assert about["challenger"] is None
    assert ("model_refused", FAMILY, 3) in events_in(settings.serve_log_folder)


def refusals(settings: Settings) -> bool:
    """Say whether a refusal is written down already, in the segment that is still written."""
    return any(
        b"model_refused" in path.read_bytes()
        for path in settings.serve_log_folder.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize("damage", [cut, fill_with_nonsense, Path.unlink])
def test_a_deployment_file_that_is_garbage_changes_nothing(
    settings: Settings, row: dict[str, Any], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = settings.home / "serving"
    whole = (folder / FILE).read_text()
    challenger = read_deployment(folder).families[FAMILY].challenger
    assert challenger is not None
    with InferenceLog(tmp_path / "log") as log, ThreadPoolExecutor(1) as threads:
        families = Families(folder, log, threads, lambda *_: None)
        families.refresh()
        served = families.served
        damage(folder / FILE)
        assert families.changed
        families.refresh()
        assert families.served is served
        (folder / FILE).write_text(whole)
        deploy(folder, champion=challenger)
        assert families.changed
        families.refresh()
        assert str(families.served[FAMILY].champion.model) == f"{FAMILY}/2"
        assert not families.changed


def test_what_is_deployed_still_is_not_loaded_again(settings: Settings, tmp_path: Path) -> None:
    folder = settings.home / "serving"
    deployed = read_deployment(folder).families[FAMILY]
    assert deployed.challenger is not None
    with InferenceLog(tmp_path / "log") as log, ThreadPoolExecutor(1) as threads:
        families = Families(folder, log, threads, lambda *_: None)
        families.refresh()
        before = families.served
        deploy(folder, champion=deployed.challenger, challenger=deployed.champion)
        families.refresh()
        now = families.served
        assert now["outcomes"].champion is before["outcomes"].champion
        assert now[FAMILY].champion is before[FAMILY].challenger
        assert now[FAMILY].challenger is before[FAMILY].champion


def test_a_policy_that_changes_loads_a_version_with_it(settings: Settings, tmp_path: Path) -> None:
    folder = settings.home / "serving"
    with InferenceLog(tmp_path / "log") as log, ThreadPoolExecutor(1) as threads:
        families = Families(folder, log, threads, lambda *_: None)
        families.refresh()
        assert families.served[FAMILY].champion.model.check.policy == Policy()
        content = json.loads((folder / FILE).read_text())
        content["families"][FAMILY]["declaration"]["serving"] = {"unseen_categories": "refuse"}
        (folder / FILE).write_text(json.dumps(content))
        families.refresh()
        policy = families.served[FAMILY].champion.model.check.policy
        assert policy == Policy(refuse_unseen=True)


def test_a_declaration_that_is_wrong_leaves_its_family_as_it_was(
    settings: Settings, tmp_path: Path
) -> None:
    folder = settings.home / "serving"
    with InferenceLog(tmp_path / "log") as log, ThreadPoolExecutor(1) as threads:
        families = Families(folder, log, threads, lambda *_: None)
        families.refresh()
        before = families.served
        content = json.loads((folder / FILE).read_text())
        content["families"][FAMILY]["declaration"]["task"] = "guessing"
        (folder / FILE).write_text(json.dumps(content))
        families.refresh()
        assert families.served[FAMILY] is before[FAMILY]
        assert families.served["outcomes"].champion is before["outcomes"].champion


# The follower ------------------------------------------------------------------------------------


@pytest.fixture
def registry(world: World, tmp_path: Path) -> Registry:
    """A copy of the world's registry, in which aliases may be changed."""
    settings = load_settings(home=copy_home(world.home, tmp_path / "copy"), threads=2)
    return Registry.from_settings(settings, Lake.from_settings(settings))


Reports = list[tuple[str, str, Any]]


@pytest.fixture
def reports() -> Reports:
    return []


def test_an_alias_that_changes_is_deployed(
    registry: Registry, tmp_path: Path, reports: Reports
) -> None:
    folder = tmp_path / "serving"
    following = follower(registry, folder, lambda *said: reports.append(said))
    assert following.look()
    assert not following.look()
    deployed = read_deployment(folder).families[FAMILY]
    assert deployed.challenger is not None
    assert (deployed.champion.version, deployed.challenger.version) == (1, 2)
    promotion.promote_by_hand(registry, ModelReference(FAMILY, 2), actor="ann", reason="better")
    assert following.look()
    deployed = read_deployment(folder).families[FAMILY]
    assert (deployed.champion.version, deployed.challenger) == (2, None)
    assert deployed.champion.threshold is not None
    assert reports == []
    # The version before is still there, for workers that are about to notice.
    assert sorted(path.name for path in (folder / "models" / FAMILY).iterdir()) == ["1", "2"]
    registry.client.set_registered_model_alias(FAMILY, str(Alias.challenger), "2")
    assert following.look()
    assert sorted(path.name for path in (folder / "models" / FAMILY).iterdir()) == ["2"]


def test_a_champion_that_cannot_serve_is_reported_once_and_the_old_one_stays(
    registry: Registry, tmp_path: Path, reports: Reports
) -> None:
    folder = tmp_path / "serving"
    following = follower(registry, folder, lambda *said: reports.append(said))
    following.look()
    before = read_deployment(folder)
    shutil.rmtree(folder / "models" / FAMILY / "2")
    for path in (tmp_path / "copy" / "mlflow" / "artifacts").rglob("model.cb"):
        path.write_bytes(b"nonsense")
    following = follower(registry, folder, lambda *said: reports.append(said))
    registry.client.set_registered_model_alias(FAMILY, str(Alias.champion), "2")
    for _ in range(3):
        following.look()
    assert read_deployment(folder).families[FAMILY].champion == before.families[FAMILY].champion
    assert (folder / before.families[FAMILY].champion.folder).is_dir()
    [(kind, message, about)] = reports
    assert (kind, dict(about)) == ("model_refused", {"family": FAMILY, "version": 2})
    assert "cannot serve" in message
    assert not list((folder / "models" / FAMILY).glob("*.part"))


@pytest.mark.parametrize("damage", [cut, fill_with_nonsense, Path.unlink])
def test_a_deployment_file_that_is_garbage_is_written_again(
    registry: Registry, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "serving"
    following = follower(registry, folder)
    following.look()
    before = read_deployment(folder)
    damage(folder / FILE)
    assert following.look()
    assert read_deployment(folder) == before


def test_a_deployment_file_that_others_may_write_is_not_trusted(settings: Settings) -> None:
    path = settings.home / "serving" / FILE
    path.chmod(0o666)
    with pytest.raises(StateFileError, match="chmod 600"):
        read_deployment(path.parent)
