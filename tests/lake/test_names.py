import pytest

from mlops_assets.lake import LakeError, TableName, TableNameError, TableVersion


@pytest.mark.parametrize("text", ["raw/flights", "raw/flights__quarantine", "a/b2_c"])
def test_a_name_survives_reading_and_writing(text: str) -> None:
    assert str(TableName.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flights",
        "raw/",
        "/flights",
        "Raw/flights",
        "raw/fli ghts",
        "raw/flights/x",
        "raw/../flights",
        "raw/flüge",
        "raw/2013",
        'raw/f"; DROP',
        "raw/" + "f" * 64,
        "main/flights",
        "temp/flights",
        "raw/flights\n",
    ],
)
def test_an_unsafe_name_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(TableNameError, match=r"lowercase letters|DuckDB's own"):
        TableName.parse(text)


def test_a_version_survives_reading_and_writing() -> None:
    version = TableVersion.parse("raw/flights@12")
    assert version == TableVersion(TableName("raw", "flights"), 12)
    assert str(version) == "raw/flights@12"


@pytest.mark.parametrize("text", ["raw/flights", "raw/flights@", "raw/flights@-1", "raw/flights@²"])
def test_a_text_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(LakeError, match="raw/flights@12"):
        TableVersion.parse(text)


def test_versions_count_from_zero() -> None:
    with pytest.raises(TableNameError, match="count from 0"):
        TableVersion(TableName("raw", "flights"), -1)
