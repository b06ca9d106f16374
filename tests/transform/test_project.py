"""Reading a dbt project: parsed when it changed; a code version follows the model's code."""

from mlops_assets.transform.project import DbtProject

MODEL = "model.mlops_assets.stg_sales"


def reread(project: DbtProject) -> DbtProject:
    return DbtProject(project.folder)


def test_an_unchanged_project_is_not_parsed_again(project: DbtProject) -> None:
    written = project.ensure_manifest().stat().st_mtime_ns
    assert reread(project).ensure_manifest().stat().st_mtime_ns == written


def test_a_changed_file_is_parsed(project: DbtProject) -> None:
    project.ensure_manifest()
    (project.folder / "models" / "marts" / "more.sql").write_text("select 1 as one")

    assert "model.mlops_assets.more" in reread(project).models


def test_the_code_version_follows_a_macro(project: DbtProject) -> None:
    macro = project.folder / "macros" / "doubled.sql"
    macro.write_text("{% macro doubled(x) %} 2 * {{ x }} {% endmacro %}")
    sql = project.folder / "models" / "staging" / "stg_sales.sql"
    sql.write_text(sql.read_text().replace("amount from", "{{ doubled('amount') }} as amount from"))
    before = reread(project).code_version(MODEL)

    macro.write_text("{% macro doubled(x) %} {{ x }} + {{ x }} {% endmacro %}")

    assert reread(project).code_version(MODEL) != before


def test_the_code_version_ignores_other_models(project: DbtProject) -> None:
    before = project.code_version(MODEL)
    (project.folder / "models" / "marts" / "more.sql").write_text("select 1 as one")

    assert reread(project).code_version(MODEL) == before
