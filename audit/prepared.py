"""Statements of the hot path: written in SQLAlchemy Core, compiled once, run on the driver's own cursor.

A call runs some twenty statements. SQLAlchemy takes about 90 µs to execute one and to wrap its rows, SQLite 5 µs. What
is lost is what the hot path does not need: typed results, events, generated keys.
"""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.expression import Executable


def driver(connection: Connection) -> Any:
    """The driver's own connection under SQLAlchemy's, inside the same transaction."""
    return connection.connection.driver_connection


class Prepared:
    """A statement whose values are all bound by name; columns of plain types alone."""

    def __init__(self, statement: Executable) -> None:
        self._statement: Any = statement
        self._dialect = ""
        self._text = ""
        self._names: tuple[str, ...] = ()
        self._row: Callable[..., Any] = tuple

    def one(self, connection: Connection, **values: object) -> Any:
        """The first row as a named tuple; None where there is none."""
        row = self._run(connection, values).fetchone()
        return None if row is None else self._row(*row)

    def all(self, connection: Connection, **values: object) -> list[Any]:
        """Every row, as named tuples."""
        return [self._row(*row) for row in self._run(connection, values).fetchall()]

    def scalar(self, connection: Connection, **values: object) -> Any:
        """The first column of the first row; None where there is none."""
        row = self._run(connection, values).fetchone()
        return None if row is None else row[0]

    def run(self, connection: Connection, **values: object) -> int:
        """How many rows a change met."""
        return int(self._run(connection, values).rowcount)

    def _run(self, connection: Connection, values: dict[str, object]) -> Any:
        if self._dialect != connection.dialect.name:
            self._compile(connection)
        cursor = driver(connection).cursor()
        cursor.execute(self._text, [values[name] for name in self._names])
        return cursor

    def _compile(self, connection: Connection) -> None:
        compiled = self._statement.compile(dialect=connection.dialect)
        if not compiled.positional or compiled.literal_execute_params:
            raise TypeError("only statements with values bound by position can be prepared")
        self._text, self._names = str(compiled), tuple(compiled.positiontup)
        if self._statement.is_select:
            columns = [column.name for column in self._statement.selected_columns]
            make: Any = namedtuple  # its names are known when it runs, so a checker cannot follow
            self._row = make("Row", columns)
        self._dialect = connection.dialect.name
