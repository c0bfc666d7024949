"""Reads the file stewards edit into a `Catalog`; the head of catalog.yaml explains the file to its readers.

The YAML is composed to nodes, not constructed to Python values: every scalar stays the text that was written (a code
`NO` is not False, `01` is not 1), double keys are seen instead of silently lost, and each complaint can name its line.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeVar

import yaml

from sandbox.vault.catalog import Cadence, Catalog, Code, Dataset, Department, Field, FieldType
from sandbox.vault.errors import CatalogInvalid

FILE_BYTES_MAX = 4 << 20
"""A catalogue of 1,700 fields is 0.1 MiB; anything near the bound is not a catalogue."""
FIELDS_PER_DATASET_MAX = 4096
"""A row of a dataset is at most 8 bytes a field: 32 KiB, a few database pages."""
CODES_MAX = 65_535
"""A category is stored as an index of 16 bits."""
LABEL_LENGTH_MAX = 200
"""Labels are shown in one line of a consent notice."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CODE = re.compile(r"[^\s,|\[\]]{1,64}")
_UNIT = re.compile(r"[^\s,|\[\]]{1,16}")
_BRACES = re.compile(r"\{([^{}]*)\}")
_PLACE = re.compile(r"\{([1-9])\}")

_Words = Mapping[str, tuple[str, str]]
_Named = TypeVar("_Named", bound=StrEnum)


def read_catalog_file(path: Path) -> Catalog:
    """Read a catalogue file.

    Raises:
        CatalogInvalid: The file is missing or too large, is not UTF-8 YAML, or breaks a rule; with line and remedy.
    """
    return parse_catalog(_bytes_of(path))


def parse_catalog(text: bytes) -> Catalog:
    """Read a catalogue from the bytes of its file.

    Raises:
        CatalogInvalid: Not UTF-8 YAML, or a rule is broken; with line and remedy.
    """
    top = _mapping(_compose(text), "the catalogue", required={"departments"}, optional={"words", "code_lists"})
    words = _words(top.get("words"))
    code_lists = _code_lists(top.get("code_lists"))
    departments: dict[str, Department] = {}
    datasets: dict[str, Dataset] = {}
    for name, node in _mapping(top["departments"], "departments", names="department").items():
        body = _mapping(node, f"department {name}", required={"label", "datasets"})
        departments[name] = Department(name, *_labels(body["label"]))
        for short, inner in _mapping(body["datasets"], f"datasets of {name}", names="dataset").items():
            datasets[f"{name}.{short}"] = _dataset(name, short, inner, words, code_lists)
    return Catalog(MappingProxyType(departments), MappingProxyType(datasets), MappingProxyType(code_lists))


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CatalogInvalid(f"the catalogue file cannot be read: {error.strerror}") from None
    if len(text) > FILE_BYTES_MAX:
        raise CatalogInvalid(f"the catalogue file is larger than {FILE_BYTES_MAX} bytes")
    return text


def _compose(text: bytes) -> yaml.Node:
    try:
        node = yaml.compose(text.decode("utf-8-sig"), Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        raise CatalogInvalid(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise CatalogInvalid(f"{where}not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError):
        raise CatalogInvalid("not YAML: a character that may not stand there, or nested too deep") from None
    if node is None:
        raise CatalogInvalid("the catalogue file is empty")
    return node


def _fail(node: yaml.Node, text: str) -> NoReturn:
    raise CatalogInvalid(f"line {node.start_mark.line + 1}: {text}")


def _text(node: yaml.Node, what: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        _fail(node, f"{what} must be one line of text")
    return str(node.value).strip()


def _mapping(
    node: yaml.Node,
    what: str,
    *,
    required: set[str] | None = None,
    optional: set[str] | None = None,
    names: str = "",
) -> dict[str, yaml.Node]:
    """Return a mapping's values by key.

    With `required`, the keys are exactly those and perhaps some `optional` ones; with `names`, each key is such a name.
    """
    if not isinstance(node, yaml.MappingNode) or not node.value:
        _fail(node, f"{what} must be a list of 'name: ...' lines, indented alike")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(key, "a name")
        if names:
            _name(name, key, names)
        if name in found:
            _fail(key, f"{name!r} stands twice in {what}; remove one")
        if required is not None and name not in required | (optional or set()):
            known = ", ".join(sorted(required | (optional or set())))
            _fail(key, f"{what} has no {name!r}; it may have {known}")
        found[name] = value
    if missing := sorted((required or set()) - found.keys()):
        _fail(node, f"{what} lacks {', '.join(missing)}")
    return found


def _name(name: str, node: yaml.Node, what: str) -> None:
    if not _NAME.fullmatch(name):
        _fail(node, f"{what} name {name!r} must be a-z, 0-9 and _, start with a letter, at most 63 characters")


def _labels(node: yaml.Node) -> tuple[str, str]:
    zh, en = _split(node, _text(node, "a label"), 2, "中文 | English")
    return zh, en


def _split(node: yaml.Node, text: str, count: int, shape: str) -> list[str]:
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != count or not all(parts):
        _fail(node, f"write it as: {shape}")
    if not text.isprintable() or max(map(len, parts)) > LABEL_LENGTH_MAX:
        _fail(node, f"control characters, line breaks or more than {LABEL_LENGTH_MAX} characters in a label")
    return parts


def _words(node: yaml.Node | None) -> _Words:
    return {} if node is None else {word: _labels(each) for word, each in _mapping(node, "words").items()}


def _code_lists(node: yaml.Node | None) -> dict[str, tuple[Code, ...]]:
    lists: dict[str, tuple[Code, ...]] = {}
    for name, inner in ({} if node is None else _mapping(node, "code_lists", names="code list")).items():
        codes = _mapping(inner, f"code list {name}")
        _check_codes(tuple(codes), inner)
        lists[name] = tuple(Code(code, *_labels(each)) for code, each in codes.items())
    return lists


def _check_codes(codes: Sequence[str], node: yaml.Node) -> None:
    if not all(_CODE.fullmatch(code) and code.isprintable() for code in codes):
        _fail(node, "a code is 1 to 64 characters without spaces, commas, brackets or |")
    if len(set(codes)) != len(codes) or len(codes) > CODES_MAX:
        _fail(node, f"a code list has at most {CODES_MAX} codes, each once")


def _choice(kind: type[_Named], text: str, node: yaml.Node, what: str) -> _Named:
    if text not in (known := [str(each) for each in kind]):
        _fail(node, f"{text!r} is no {what}; known are {', '.join(known)}")
    return kind(text)


def _dataset(
    department: str, short: str, node: yaml.Node, words: _Words, lists: Mapping[str, tuple[Code, ...]]
) -> Dataset:
    name = f"{department}.{short}"
    body = _mapping(node, f"dataset {name}", required={"label", "cadence", "fields"}, optional={"words"})
    known = {**words, **_words(body.get("words"))}
    fields: dict[str, Field] = {}
    for pattern, line in _mapping(body["fields"], f"fields of {name}").items():
        for each in _family(pattern, line, known, lists):
            if each.name in fields:
                _fail(line, f"field {each.name!r} stands twice in {name}; remove one")
            fields[each.name] = each
        if len(fields) > FIELDS_PER_DATASET_MAX:
            _fail(line, f"more than {FIELDS_PER_DATASET_MAX} fields in {name}; make two datasets of it")
    cadence = _choice(Cadence, _text(body["cadence"], "cadence"), body["cadence"], "cadence")
    return Dataset(name, department, *_labels(body["label"]), cadence, tuple(fields.values()))


def _family(pattern: str, node: yaml.Node, words: _Words, lists: Mapping[str, tuple[Code, ...]]) -> Iterator[Field]:
    """Yield the fields one line describes, the last brace running fastest."""
    spec, zh, en = _split(node, _text(node, "a field"), 3, "type | 中文 | English")
    kind, unit, codes, list_name = _type(spec, node, lists)
    choices = [[choice.strip() for choice in group.split(",")] for group in _BRACES.findall(pattern)]
    if math.prod(map(len, choices)) > FIELDS_PER_DATASET_MAX:
        _fail(node, f"{pattern!r} describes more than {FIELDS_PER_DATASET_MAX} fields")
    frame = _BRACES.split(pattern)[::2]
    for chosen in itertools.product(*choices):
        name = frame[0] + "".join(itertools.chain.from_iterable(zip(chosen, frame[1:], strict=True)))
        _name(name, node, "field")
        said = [_word(choice, words, node) for choice in chosen]
        label_zh = _label(zh, [word[0] for word in said], node, chinese=True)
        label_en = _label(en, [word[1] for word in said], node, chinese=False)
        yield Field(name, kind, unit, codes, label_zh, label_en, list_name)


def _word(choice: str, words: _Words, node: yaml.Node) -> tuple[str, str]:
    if choice in words:
        return words[choice]
    if choice.isdecimal():
        return choice, choice
    _fail(node, f"say under 'words' what {choice!r} means: '{choice}: 中文 | English'")


def _label(label: str, words: list[str], node: yaml.Node, *, chinese: bool) -> str:
    """Put each brace's word where the label says {n}; the others before a Chinese label, after an English one."""
    placed = {int(number) for number in _PLACE.findall(label)}
    if placed and max(placed) > len(words):
        _fail(node, f"the label says {{{max(placed)}}}, but the name has {len(words)} braces")
    label = _PLACE.sub(lambda match: words[int(match[1]) - 1], label)
    rest = [word for number, word in enumerate(words, start=1) if number not in placed]
    # Time comes first in Chinese and last in English: the last brace is the window.
    return "".join(reversed(rest)) + label if chinese else ", ".join([label, *rest])


def _type(
    spec: str, node: yaml.Node, lists: Mapping[str, tuple[Code, ...]]
) -> tuple[FieldType, str, tuple[str, ...], str]:
    """Return type, unit, codes and code list name of a field's `type [unit or codes]`."""
    word, _, rest = spec.partition(" ")
    kind, rest = _choice(FieldType, word, node, "type"), rest.strip()
    if kind is FieldType.CATEGORY:
        return kind, "", *_codes(rest, node, lists)
    if rest and (kind not in (FieldType.NUMBER, FieldType.INTEGER) or not _UNIT.fullmatch(rest)):
        _fail(node, f"{rest!r} after {word!r}: only number and integer have a unit, one word of at most 16 characters")
    return kind, rest, (), ""


def _codes(rest: str, node: yaml.Node, lists: Mapping[str, tuple[Code, ...]]) -> tuple[tuple[str, ...], str]:
    if rest.startswith("[") and rest.endswith("]"):
        codes = tuple(code.strip() for code in rest[1:-1].split(","))
        _check_codes(codes, node)
        return codes, ""
    if rest not in lists:
        _fail(node, f"category needs [code, code, ...] or the name of a code list; there is no list {rest!r}")
    return tuple(each.code for each in lists[rest]), rest
