"""Commands that are imported when they are used: `heixia --help` is on the screen before anything else loads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Part:
    """A command or a group of commands: where it lies, and its help's first sentence, which the whole's help shows."""

    module: str
    attribute: str
    sentence: str

    def load(self, name: str) -> Any:
        """Imports it and makes a command of this name of it."""
        found = getattr(import_module(self.module), self.attribute)
        holder = plain_app()
        holder.callback()(lambda: None)  # makes a group of it, whatever it holds
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name, cls=PlainGroup)
        else:
            holder.command(name)(found)
        made: Any = get_command(holder)
        _keep_examples(made)
        return made.commands[name]


class PlainGroup(TyperGroup):
    """Says what its commands do in whole sentences; typer would cut them to fit a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the base class's
        """Writes the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_sentence(command)) for name, command in self.commands.items()])


class LazyGroup(TyperGroup):
    """A group of `parts`, in their order; subclasses say what those are."""

    parts: Mapping[str, Part]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        loaded: Any = _Loaded(self.parts)  # read alone, as typer does once a group is made
        self.commands = loaded

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the base class's
        """Writes the list of commands; nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.sentence) for name, part in self.parts.items()])


class _Loaded(Mapping[str, Any]):
    """Commands by name, each imported when it is first asked for."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts, self._made = parts, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._parts[name].load(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def first_sentence(command: Any) -> str:
    """Of a command's help."""
    return str(command.get_short_help_str(1000))


def _keep_examples(command: Any) -> None:
    """Marks paragraphs of commands to type, so that they are printed as they stand and not filled as text is."""
    parts = [
        f"\b\n{part}" if part.startswith((" ", "heixia ", "Example: ")) else part
        for part in (command.help or "").split("\n\n")
    ]
    command.help = "\n\n".join(parts)
    for inner in getattr(command, "commands", {}).values():
        _keep_examples(inner)


def plain_app(**settings: Any) -> typer.Typer:
    """A typer application whose help and errors are plain text: `rich` takes longer to import than all else."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **settings)
