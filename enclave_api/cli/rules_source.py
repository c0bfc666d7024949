"""What rules are checked against on a bank's own machine: an offer, a saved list of fields, or a catalogue."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from model_registry.errors import ManifestInvalid
from model_registry.rules.document import RULES_BYTES_MAX
from sandbox.gate import snap


@dataclass(frozen=True)
class Field:
    """A field as rules see it: full name, type, a category's codes."""

    name: str
    type: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """Where field types come from: the first that is given of list, catalogue file, server; else what is packaged."""

    listed: Path | None = None
    catalog: Path | None = None
    server: str = ""
    as_: Path | None = None

    @property
    def offline(self) -> bool:
        """Whether no server is asked."""
        return self.listed is not None or self.catalog is not None or self.as_ is None

    def known(self) -> Mapping[str, Field]:
        """Every field of the list or catalogue."""
        if self.listed is not None:
            return _read_list(self.listed)
        from sandbox.vault.catalog import load_catalog

        fields = load_catalog(self.catalog).fields
        return {name: Field(name, str(field.type), tuple(field.codes)) for name, field in fields.items()}


@dataclass(frozen=True)
class Source:
    """Rules with what they are checked against. `levels` None: they are not known, and cases' levels not checked."""

    path: Path
    text: bytes
    fields: Sequence[Field]
    levels: Sequence[int] | None
    known: Sequence[str]

    @property
    def kinds(self) -> dict[str, str]:
        """Types by full name."""
        return {field.name: field.type for field in self.fields}

    @property
    def codes(self) -> dict[str, Sequence[str]]:
        """Code lists by full name."""
        return {field.name: field.codes for field in self.fields if field.codes}

    def level(self, yuan: float) -> int:
        """The level an amount gets."""
        return snap(yuan, self.levels or (0,))


def read_source(path: Path, offer: Path | None, where: Fields) -> Source:
    """Reads an offer (its file or folder), or a rules file by itself or over an offer.

    Raises:
        ManifestInvalid, ModelRefused: the offer or the list of fields is wrong; says where.
    """
    path = path / "offer.yaml" if path.is_dir() else path
    text = _read(path)
    if offer is None and _is_offer(text):
        return _of_offer(path, None, where)
    if offer is not None:
        return _of_offer(offer / "offer.yaml" if offer.is_dir() else offer, (path, text), where)
    if not where.offline:
        raise typer.BadParameter("a rules file by itself needs --offer, --fields or --catalog")
    known = where.known()
    return Source(path, text, list(known.values()), None, ())


def _of_offer(offer: Path, rules: tuple[Path, bytes] | None, where: Fields) -> Source:
    # what an offer needs takes a second to import; a rules file by itself does not need it
    from enclave_api.cli.offer_file import FieldsOf, read_offer
    from enclave_api.client.bank import Bank
    from model_registry.convert import FieldSpec

    known: Mapping[str, Field] = where.known() if where.offline else {}
    with ExitStack() as stack:
        fields_of: FieldsOf = lambda names: [FieldSpec.of(name, known) for name in names]  # noqa: E731
        if not where.offline:
            fields_of = stack.enter_context(Bank.connect(where.server, where.as_ or Path())).fields
        model, terms, _ = read_offer(offer, fields_of)
    path, text = rules or (offer.parent / _rules_name(offer), terms.rules.encode())
    fields = [Field(field.name, field.type, tuple(field.codes)) for field in model.fields]
    return Source(path, text, fields, terms.levels, list(known))


def _rules_name(offer: Path) -> str:
    return str(yaml.safe_load(offer.read_text()).get("rules") or offer.name)


def _is_offer(text: bytes) -> bool:
    """An offer names its product; whatever does not is read as rules."""
    return re.search(rb"^product\s*:", text, re.MULTILINE) is not None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(RULES_BYTES_MAX + 1)


def _read_list(path: Path) -> dict[str, Field]:
    """A mapping of full names to a type, or to the list of a category's codes; JSON or YAML."""
    try:
        read: Any = yaml.load(path.read_text(), yaml.CBaseLoader)  # noqa: S506 - texts alone: `no` stays a code
        return {str(name): _spec(str(name), told) for name, told in read.items()}
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        what = "a list of fields maps names to number, integer, boolean, date or a list of codes"
        raise ManifestInvalid("fields", public=f"{path}: {what} ({error})") from error


def _spec(name: str, told: Any) -> Field:
    if isinstance(told, list):
        return Field(name, "category", tuple(str(code) for code in told))
    if told not in ("number", "integer", "boolean", "date"):
        raise ValueError(f"{name}: {told!r}")
    return Field(name, told)


def save_list(path: Path, fields: Sequence[Field]) -> None:
    """Writes the list that `_read_list` reads, for work without a server."""
    told = {field.name: list(field.codes) if field.type == "category" else field.type for field in fields}
    path.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True, default_flow_style=None))
