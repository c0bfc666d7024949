"""Errors of the data: catalogue, subjects, records, tables to load.

    CallerError
    ├── CatalogInvalid            the catalogue file is wrong; says where and what to do
    ├── DatasetUnknown            no dataset of that name in the catalogue
    ├── FieldUnknown              no field of that name in the catalogue, or not in that dataset
    ├── SubjectInvalid            not a well-formed subject
    ├── RecordInvalid             packed rows break a rule of the layout; names row and field
    └── IngestError               a steward's table cannot be loaded
        ├── TableUnreadable       not a file of a known format, not UTF-8, a line with too many or too few columns
        ├── TableEmpty            no rows
        ├── TableTruncated        the file was cut while it was written or copied
        ├── TableHeaderWrong      columns missing, unknown or double
        └── TableLineError        something wrong at one line
            ├── TableSubjectInvalid    a subject is not well-formed
            ├── TableSubjectDuplicate  a subject stands on two lines
            └── TableValueInvalid      a value does not fit its field

No message holds a subject or a value: tables are data about companies, and messages end up in logs.
"""

from audit.errors import CallerError


class CatalogInvalid(CallerError):
    """The catalogue file cannot be used; the message says where and what to do."""

    code = "catalog_invalid"


class DatasetUnknown(CallerError):
    """The catalogue has no dataset of that name."""

    code = "dataset_unknown"


class FieldUnknown(CallerError):
    """The catalogue, or the dataset asked, has no field of that name."""

    code = "field_unknown"


class SubjectInvalid(CallerError):
    """Not a unified social credit code or resident identity number in canonical form."""

    code = "subject_invalid"


class RecordInvalid(CallerError):
    """Packed rows, or the columns to pack, break a rule of the record layout.

    Attributes:
        row: Index of the offending row from 0, or None if it is not about one row.
        field: Short name of the field, or "" if it is not about one field.
    """

    code = "record_invalid"

    def __init__(self, reason: str, *, row: int | None = None, field: str = "") -> None:
        where = [] if row is None else [f"row {row}"]
        where += [f"field {field}"] if field else []
        super().__init__(f"{', '.join(where)}: {reason}" if where else reason)
        self.reason, self.row, self.field = reason, row, field


class IngestError(CallerError):
    """A table cannot be loaded; nothing of it was."""


class TableUnreadable(IngestError):
    """Not a readable CSV (UTF-8) or Parquet file."""

    code = "table_unreadable"


class TableEmpty(IngestError):
    """The table has no rows."""

    code = "table_empty"


class TableTruncated(IngestError):
    """The file ends in the middle of a line."""

    code = "table_truncated"


class TableHeaderWrong(IngestError):
    """The columns are not exactly `subject` and the dataset's fields.

    Attributes:
        missing: Fields the table lacks.
        unknown: Columns the dataset does not have, as far as they look like names.
    """

    code = "table_header_wrong"

    def __init__(self, reason: str, *, missing: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.missing, self.unknown = missing, unknown


class TableLineError(IngestError):
    """An error at one line of the table.

    Attributes:
        line: Line number in the file, the header being line 1 (in Parquet: row number + 1, so the same).
        column: The column, or "" if it is not about one.
    """

    def __init__(self, reason: str, *, line: int, column: str = "") -> None:
        super().__init__(f"line {line}, column {column}: {reason}" if column else f"line {line}: {reason}")
        self.line, self.column = line, column


class TableSubjectInvalid(TableLineError):
    """A subject is empty or not well-formed."""

    code = "table_subject_invalid"


class TableSubjectDuplicate(TableLineError):
    """A subject stands on more than one line.

    Attributes:
        first_line: The line it stood on before.
    """

    code = "table_subject_duplicate"

    def __init__(self, *, line: int, first_line: int) -> None:
        super().__init__(f"the same subject as on line {first_line}", line=line, column="subject")
        self.first_line = first_line


class TableValueInvalid(TableLineError):
    """A value does not fit its field's type."""

    code = "table_value_invalid"
