"""A wrong ``defs.yaml`` is refused at load, all at once: file, line, key, what is allowed."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.defs_files import DeclarationsError, Finding, load_declared
from mlops_assets.settings import load_settings

PYPROJECT = """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{module}"
"""
DECLARATION = """\
type: mlops_assets.orchestration.raw_table.RawTable
attributes:
  table: raw/orders
  description: Orders.
  owners: ["team:shop"]
  contract: tests.orchestration.contracts:Orders
  source:
    kind: file
    path: orders.csv
"""
FAMILY = """\
type: mlops_assets.orchestration.model_family.ModelFamilyAssets
attributes:
  name: late
  description: Will it be late?
  owners: ["team:shop"]
  assumptions: [a]
  limitations: [b]
  spine: {table: marts/spine, entity: [order_id]}
  label: {table: marts/facts, column: late, available_at: known_at}
  features:
    - view: fv_shop
  split: {train_end: 2013-09-01, validation_end: 2013-10-01, test_end: 2014-01-01}
  candidates:
    - algorithm: linear
"""
PASSWORD = "hunter22"  # noqa: S105 - what must not be shown

Load = Callable[..., dg.Definitions]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Load:
    """Load a project whose ``defs`` folder has the given files; a plain text is one of them."""
    module = f"project_{abs(hash(request.node.name))}"
    folder = tmp_path / module / "defs"
    folder.mkdir(parents=True)
    for package in (tmp_path / module, folder):
        (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(module=module))
    monkeypatch.syspath_prepend(str(tmp_path))

    def load_files(text: str = "", **files: str) -> dg.Definitions:
        for name, content in {**files, **({"orders": text} if text else {})}.items():
            (folder / name).mkdir()
            (folder / name / "defs.yaml").write_text(content)
        try:
            return load_declared(tmp_path, Lake.from_settings(load_settings(home=tmp_path)))
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] == module]:
                del sys.modules[name]

    return load_files


def findings(load: Load, *text: str, **files: str) -> list[Finding]:
    with pytest.raises(DeclarationsError) as caught:
        load(*text, **files)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # nothing but the short message is shown
    for finding in caught.value.findings:
        assert str(finding) in str(caught.value)
    return list(caught.value.findings)


def test_a_right_declaration_loads(load: Load) -> None:
    [asset] = load(DECLARATION).assets
    assert asset.key == dg.AssetKey(["raw", "orders"])


def _with(line: str, instead_of: str = "") -> str:
    return DECLARATION.replace(instead_of, line) if instead_of else DECLARATION + line


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        pytest.param(
            _with("  owner: me\n"),
            "10: attributes.owner",
            ["did you mean 'owners'?", "Allowed: table, description"],
            id="unknown key",
        ),
        pytest.param(
            _with("path: orders.csv\n    pth: x", "path: orders.csv"),
            "10: attributes.source.pth",
            ["did you mean 'path'?", "Allowed: kind, path, package"],
            id="unknown nested key",
        ),
        pytest.param(
            _with("knd: file", "kind: file"),
            "8: attributes.source.knd",
            ["did you mean 'kind'?"],
            id="unknown key of the kind",
        ),
        pytest.param(
            _with("kind: fille", "kind: file"),
            "7: attributes.source",
            ["kind 'fille' is unknown", "did you mean 'file'?", "'file', 'sql' or 'callable'"],
            id="unknown kind",
        ),
        pytest.param(
            _with("  load: {mode: daily, column: order_date, days: {strat: 2013-01-01}}\n"),
            "10: attributes.load.days.strat",
            ["did you mean 'start'?", "Allowed: start, end"],
            id="unknown key three levels down",
        ),
        pytest.param(
            _with("  max_refused_share: plenty\n"),
            "10: attributes.max_refused_share",
            ["'plenty' is not allowed", "a number from 0 to 1"],
            id="wrong type",
        ),
        pytest.param(
            _with("  max_refused_share: 7\n"),
            "10: attributes.max_refused_share",
            ["7 is not allowed", "a number from 0 to 1"],
            id="out of range",
        ),
        pytest.param(
            _with("path: orders.csv\n    compression: gzip", "path: orders.csv"),
            "10: attributes.source.compression",
            ["'gzip' is not allowed", "'none', 'gz', 'zip'"],
            id="none of the choices",
        ),
        pytest.param(
            _with("path: orders.parquet\n    delimiter: ;", "path: orders.csv"),
            "10: attributes.source.delimiter",
            ["`delimiter` is for CSV; this source reads parquet"],
            id="keys that do not fit together",
        ),
        pytest.param(
            _with("  source: orders.csv\n", "  source:\n    kind: file\n    path: orders.csv\n"),
            "7: attributes.source",
            ["'orders.csv' is not allowed", "a mapping with the keys kind, path"],
            id="no mapping",
        ),
        pytest.param(
            _with("table: orders", "table: raw/orders"),
            "3: attributes.table",
            ["'orders' is not the name of a table"],
            id="no table name",
        ),
        pytest.param(
            _with("", "  contract: tests.orchestration.contracts:Orders\n"),
            "2: attributes.contract",
            ["missing", "required", "Import path of the Contract class", "contracts:Flights"],
            id="missing key",
        ),
        pytest.param(
            _with("contracts:Nothing", "contracts:Orders"),
            "6: attributes.contract",
            ["no contract 'Nothing' in tests.orchestration.contracts. It has Orders"],
            id="missing contract",
        ),
        pytest.param(
            _with("tests.orchestration.contracts:date", "tests.orchestration.contracts:Orders"),
            "6: attributes.contract",
            ["'tests.orchestration.contracts:date' is no subclass"],
            id="no contract",
        ),
        pytest.param(
            _with("[somebody]", '["team:shop"]'),
            "5: attributes.owners[0]",
            ["'somebody' is no owner", "e-mail address", "team:name"],
            id="no owner",
        ),
        pytest.param(
            _with("  schedule: every day\n"),
            "10: attributes.schedule",
            ["'every day' is no cron line", "'0 6 * * *'"],
            id="no cron line",
        ),
        pytest.param(
            DECLARATION.partition("attributes:")[0] + "attributes:\n",
            "2: attributes",
            ["is empty", "table, description, owners, source, contract"],
            id="empty attributes",
        ),
        pytest.param(
            _with("RawTabel", "RawTable"),
            "1: type",
            [
                "'mlops_assets.orchestration.raw_table.RawTabel' is unknown",
                "did you mean 'mlops_assets.orchestration.raw_table.RawTable'?",
            ],
            id="unknown class",
        ),
        pytest.param(
            _with("orchestration.rawtable.", "orchestration.raw_table."),
            "1: type",
            ["did you mean 'mlops_assets.orchestration.raw_table.RawTable'?"],
            id="unknown module",
        ),
        pytest.param(
            _with("atributes:", "attributes:"),
            "2: atributes",
            ["unknown key; did you mean 'attributes'?"],
            id="unknown key of the document",
        ),
        pytest.param(
            FAMILY.replace("view: fv_shop", "veiw: fv_shop"),
            "11: attributes.features[0].veiw",
            ["did you mean 'view'?", "Allowed: view, columns"],
            id="family: unknown key",
        ),
        pytest.param(
            FAMILY.replace("validation_end: 2013-10-01", "validation_end: soon"),
            "12: attributes.split.validation_end",
            ["'soon' is not allowed", "a day such as 2013-01-31"],
            id="family: wrong type",
        ),
        pytest.param(
            FAMILY + "  primary_metric: accuracy\n",
            "15: attributes.primary_metric",
            ["'accuracy' does not fit task 'binary'"],
            id="family: keys that do not fit together",
        ),
    ],
)
def test_a_wrong_declaration_names_file_line_key_and_what_is_allowed(
    load: Load, wrong: str, place: str, said: list[str]
) -> None:
    found = findings(load, wrong)
    texts = [str(finding) for finding in found if f"defs.yaml:{place}\n" in str(finding)]
    assert len(texts) == 1, "\n".join(map(str, found))
    for words in said:
        assert words in texts[0]


def test_everything_that_is_wrong_is_said_at_once(load: Load) -> None:
    first = DECLARATION.replace("raw/orders", "orders") + "  fail_after: soon\n  shcedule: x\n"
    second = DECLARATION.replace("contracts:Orders", "contracts:Nothing").replace("kind:", "knd:")
    third = FAMILY.replace("[a]", "[]")

    found = findings(load, f"{first}---\n{second}", family=third)

    assert [(Path(f.file).parent.name, f.line, f.problem.keys[-1]) for f in found] == [
        ("family", 6, "assumptions"),
        ("family", 8, "table"),
        ("family", 9, "table"),
        ("family", 11, "view"),
        ("orders", 3, "table"),
        ("orders", 10, "fail_after"),
        ("orders", 11, "shcedule"),
        ("orders", 18, "contract"),
        ("orders", 20, "knd"),
    ]


def test_a_table_that_is_declared_twice_names_both_places(load: Load) -> None:
    [found] = findings(load, orders=DECLARATION, others=DECLARATION)
    assert (Path(found.file).parent.name, found.line) == ("others", 3)
    assert "'raw/orders' is declared already" in found.problem.text
    assert "orders/defs.yaml:3" in found.problem.text


@pytest.mark.parametrize(
    "source",
    [
        f"kind: sql\n    url: postgresql://reader:{PASSWORD}@db/shop\n    table: orders",
        f"kind: sql\n    url: postgresql://reader:{PASSWORD}@db/shop\n    tabel: orders",
        f"kind: sql\n    ulr: postgresql://reader:{PASSWORD}@db/shop\n    table: orders",
        f"kind: file\n    path: ftp://reader:{PASSWORD}@db/{{day}}.csv",
        f"kind: file\n    path: s3://b/a.csv\n    storage_options: {{secret: [{PASSWORD}]}}",
        f"kind: callable\n    function: nothing\n    arguments: {{token: {PASSWORD}}}",
        f"kind: callable\n    function: password={PASSWORD}",
        f"kind: sql\n    url: [postgresql://reader:{PASSWORD}@db/shop",
        f"postgresql://reader:{PASSWORD}@db/shop",
    ],
)
def test_no_error_shows_a_secret(load: Load, source: str) -> None:
    with pytest.raises(DeclarationsError) as caught:
        load(DECLARATION.replace("kind: file\n    path: orders.csv", source))

    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert "attributes.source" in str(caught.value) or "is not YAML" in str(caught.value)


def test_what_is_not_yaml_names_the_line(load: Load) -> None:
    [found] = findings(load, DECLARATION.replace("kind: file", "kind: [file"))
    assert found.line == 9
    assert "is not YAML" in found.problem.text


def test_a_contract_whose_module_fails_names_the_line_of_the_module(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text("import datetime\n\nprice = cost * 2\n")
    wrong = DECLARATION.replace("tests.orchestration.contracts:Orders", "failing:Orders")
    [found] = findings(load, wrong)
    assert (found.line, found.problem.keys) == (6, ("attributes", "contract"))
    assert "NameError: name 'cost' is not defined" in found.problem.text
    assert "failing.py:3" in found.problem.text


def test_a_project_without_dbt_models_names_the_key(load: Load) -> None:
    [found] = findings(
        load,
        "type: mlops_assets.orchestration.dbt_models.DbtModels\n"
        "attributes:\n  project: nowhere\n  daily: {start: 2013-01-01}\n",
    )
    assert found.line in {2, 3}
    assert "nowhere" in found.problem.text


def test_an_error_that_no_file_explains_keeps_its_traceback(load: Load, tmp_path: Path) -> None:
    [module] = [path for path in tmp_path.iterdir() if path.is_dir()]
    (module / "defs" / "broken.py").write_text("raise RuntimeError('a bug')\n")
    with pytest.raises(Exception, match="a bug") as caught:
        load(DECLARATION)
    assert not isinstance(caught.value, DeclarationsError)


PROJECT = Path(__file__).parents[2]
DELAY = PROJECT / "mlops_assets" / "defs" / "flights" / "delay" / "defs.yaml"


def test_all_mistakes_of_all_files_are_told_in_one_go(load: Load) -> None:
    orders = DECLARATION + (
        "  load: {mode: daily, column: ordered_on, days: {start: 2013-01-01}}\n  fail_after: soon\n"
    )
    family = (
        FAMILY.replace("[a]", "a")
        .replace("marts/spine", "raw/order")
        .replace("{table: marts/facts, column: late,", "{table: raw/orders, column: latee,")
        .replace("train_end: 2013-09-01", "train_end: 2013-10-01")
        + "      parameters: {CC: 1}\n"
        "    - algorithm: catboost\n"
        "      parameters: {learning_rat: 0.1, thread_count: 2}\n"
        "      search: {space: {depht: {kind: int, low: 8, high: 5}}}\n"
        "    - algorithm: net\n"
        "      parameters: {kk: 4, dropout: 2}\n"
        "    - algorithm: sklearn.linear_model:LogisticRegresion\n"
        "    - algorithm: sklearn.preprocessing:StandardScaler\n"
        "    - {algorithm: 'sklearn.linear_model:Ridge', parameters: {alhpa: 1}}\n"
        "  primary_metric: rocauc\n"
        "  gate: {slices: {columns: [carrier]}}\n"
    )
    found = findings(load, orders, family=family)

    assert [
        (Path(f.file).parent.name, f.line, ".".join(map(str, f.problem.keys[1:]))) for f in found
    ] == [
        ("family", 6, "assumptions"),
        ("family", 8, "spine.table"),
        ("family", 9, "label.column"),
        ("family", 9, "label.available_at"),
        ("family", 11, "features.0.view"),
        ("family", 12, "split.validation_end"),
        ("family", 15, "candidates.0.parameters.CC"),
        ("family", 17, "candidates.1.parameters.learning_rat"),
        ("family", 17, "candidates.1.parameters.thread_count"),
        ("family", 18, "candidates.1.search.space.depht.low"),
        ("family", 18, "candidates.1.search.space.depht"),
        ("family", 20, "candidates.2.parameters.kk"),
        ("family", 20, "candidates.2.parameters.dropout"),
        ("family", 21, "candidates.3.algorithm"),
        ("family", 22, "candidates.4.algorithm"),
        ("family", 23, "candidates.5.parameters.alhpa"),
        ("family", 24, "primary_metric"),
        ("family", 25, "gate.slices.columns.0"),
        ("orders", 10, "load.column"),
        ("orders", 11, "fail_after"),
    ]
    text = "\n".join(map(str, found))
    for said in ("learning_rate", "raw/orders", "depth", "LogisticRegression", "alpha", "dropout"):
        assert said in text
    assert "did you mean 'sklearn.linear_model" not in text
    assert "no estimator: it has no method predict" in text


def test_a_feature_view_without_available_at_is_told_once_where_it_is_declared(
    load: Load, tmp_path: Path
) -> None:
    copytree(PROJECT / "dbt_project", tmp_path / "dbt_project", ignore=ignore_patterns("target"))
    for declared in (tmp_path / "dbt_project" / "models").rglob("*.yml"):
        lines = declared.read_text().splitlines()
        at = [n for n, line in enumerate(lines) if line.strip() == "available_at: available_at"]
        if at:
            break
    place = next(n for n in range(at[0], 0, -1) if lines[n].strip() == "feature_view:")
    name = next(
        lines[n].split()[-1] for n in range(place, 0, -1) if lines[n].strip().startswith("- name:")
    )
    del lines[at[0]]
    declared.write_text("\n".join(lines))
    [found] = findings(load, first=DELAY.read_text(), second=FAMILY_OF_FLIGHTS)

    assert found.file == declared.relative_to(tmp_path).as_posix()
    assert found.line == place + 1
    assert found.problem.text == f"of model {name}: feature_view.available_at is missing."


FAMILY_OF_FLIGHTS = DELAY.read_text().replace("name: flight_delay", "name: second_delay", 1)


def test_a_table_that_nothing_declares_may_stand_in_the_lake(load: Load, tmp_path: Path) -> None:
    lake = Lake.from_settings(load_settings(home=tmp_path))
    lake.create(TableName("marts", "spine"), pa.schema([("order_id", pa.int64())]))
    found = findings(load, FAMILY)
    said = {".".join(map(str, f.problem.keys[1:])): f.problem.text for f in found}
    assert "spine.table" not in said
    assert "'prediction_time' is no column of marts/spine" in said["spine.prediction_time"]
    assert "did you mean 'marts/spine'" in said["label.table"]
