"""The catalogue: what the built-in one promises, and that a steward's mistakes are named with line and remedy."""

import contextlib
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.vault.catalog import Cadence, Catalog, Dataset, FieldType, load_catalog
from sandbox.vault.catalog_file import FILE_BYTES_MAX, parse_catalog
from sandbox.vault.errors import CatalogInvalid, DatasetUnknown, FieldUnknown

SMALL = """
words:
  12m: 近12个月 | last 12 months
  vat: 增值税 | VAT
code_lists:
  answer:
    NO: 否 | no
    01: 一 | one
departments:
  tax:
    label: 税务局 | Tax Service
    datasets:
      declaration:
        label: 纳税申报 | tax declarations
        cadence: monthly
        fields:
          paid_{vat}_{12m,3}: number CNY | 入库税额 | tax paid
          share_{12m}: number % | 占{1}销售额比例 | share of sales of the {1}
          reply: category answer | 答复 | reply
          state: category [OR, LA] | 州 | state
          since: date | 日期 | since
"""


def small(old: str = "", new: str = "") -> Catalog:
    """Parse the small catalogue with one text replaced."""
    assert old in SMALL
    return parse_catalog(SMALL.replace(old, new, 1).encode())


def test_the_built_in_catalogue_has_what_the_platform_promises() -> None:
    """26 departments, 1,600 fields, every label in both languages, every name well-formed."""
    catalog = load_catalog()
    assert len(catalog.departments) == 26
    assert {dataset.department for dataset in catalog.datasets.values()} == set(catalog.departments)
    assert len(catalog.fields) >= 1600
    for name, field in catalog.fields.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62}){2}", name)
        assert re.search(r"[\u4e00-\u9fff]", field.label_zh), name
        assert field.label_en.isascii(), name
        assert (field.type is FieldType.CATEGORY) == bool(field.codes)


def test_labels_tell_the_fields_of_a_dataset_apart() -> None:
    """Nobody consents to two different fields under one label."""
    for dataset in load_catalog().datasets.values():
        assert len({field.label_zh for field in dataset.fields}) == len(dataset.fields), dataset.name
        assert len({field.label_en for field in dataset.fields}) == len(dataset.fields), dataset.name


def test_the_built_in_file_uses_every_word_and_list_it_defines() -> None:
    """The vocabulary does not collect leftovers a steward would have to wonder about."""
    text = (Path(__file__).parents[3] / "sandbox/vault/catalog.yaml").read_text("utf-8")
    head, body = text.split("\ndepartments:\n")
    used = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"\{([^}]*)\}", body))))
    words = re.findall(r"^  ([a-z0-9_]+): .*\|", head.split("\ncode_lists:")[0], re.MULTILINE)
    assert not set(words) - used
    used_lists = {field.code_list for field in load_catalog().fields.values()}
    assert not set(load_catalog().code_lists) - used_lists


def test_the_built_in_catalogue_reads_fast() -> None:
    """Reading takes tens of milliseconds, so every command can afford it (bound: generous for a busy machine)."""
    path = Path(__file__).parents[3] / "sandbox/vault/catalog.yaml"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        load_catalog(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_a_family_line_makes_its_fields_with_words_in_place() -> None:
    """Braces multiply, the Chinese words stand before the label, time first; the English ones after it."""
    fields = small().datasets["tax.declaration"].fields
    assert [field.name for field in fields[:3]] == ["paid_vat_12m", "paid_vat_3", "share_12m"]
    assert fields[0].label_zh == "近12个月增值税入库税额"
    assert fields[0].label_en == "tax paid, VAT, last 12 months"
    assert fields[2].label_zh == "占近12个月销售额比例"
    assert fields[2].label_en == "share of sales of the last 12 months"
    assert fields[0].unit == "CNY"


def test_codes_stay_the_text_that_was_written() -> None:
    """YAML's own reading of NO and 01 as false and one does not happen."""
    catalog = small()
    assert catalog.field("tax.declaration.reply").codes == ("NO", "01")
    assert catalog.field("tax.declaration.reply").code_list == "answer"
    assert catalog.field("tax.declaration.state").codes == ("OR", "LA")


def test_lookups_find_and_refuse() -> None:
    """Fields and datasets are found by full name alone."""
    catalog = small()
    dataset = catalog.dataset("tax.declaration")
    assert dataset.cadence is Cadence.MONTHLY
    assert catalog.dataset_of("tax.declaration.since") is dataset
    assert catalog.fields[dataset.field_names[-1]] is dataset.fields[-1]
    for name in ("since", "tax.declaration", "tax.declaration.", "tax.since", ""):
        with pytest.raises(FieldUnknown):
            catalog.field(name)
        with pytest.raises(FieldUnknown):
            catalog.dataset_of(name)
    with pytest.raises(DatasetUnknown):
        catalog.dataset("tax")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("departments:", "departmints:", r"line 9: the catalogue has no 'departmints'; it may have code_lists, dep"),
        ("  tax:", "  Tax:", r"line 10: department name 'Tax' must be a-z"),
        ("  tax:", "  tax-office:", "department name 'tax-office' must be"),
        ("declaration:", "2nd:", "dataset name '2nd'"),
        ("since:", "Since:", "line 21: field name 'Since'"),
        ("since:", "state:", "line 21: 'state' stands twice"),
        ("since: date", "paid_vat_3: date", "line 21: field 'paid_vat_3' stands twice"),
        ("since: date", "since: datum", "line 21: 'datum' is no type; known are number, integer"),
        ("since: date |", "since: date d |", "only number and integer have a unit"),
        ("since: date |", "since: |", "line 21: not YAML"),
        ("| 日期 | since", "| 日期", r"line 21: write it as: type \| 中文 \| English"),
        ("| 日期 | since", "| | since", "write it as"),
        ("| 日期 | since", "| " + "日" * 201 + " | since", "more than 200 characters"),
        ("label: 税务局 | Tax Service", "label: 税务局", "line 11: write it as: 中文"),
        ("cadence: monthly", "cadence: hourly", "line 15: 'hourly' is no cadence; known are daily"),
        ("        cadence: monthly\n", "", "dataset tax.declaration lacks cadence"),
        ("category answer", "category answers", "there is no list 'answers'"),
        ("[OR, LA]", "[OR, OR]", "each once"),
        ("[OR, LA]", "[OR, ]", "a code is 1 to 64"),
        ("{12m,3}", "{12m,9m}", "say under 'words' what '9m' means"),
        ("{12m,3}", "{12m,}", "say under 'words' what ''"),
        ("占{1}", "占{2}", r"the label says \{2\}, but the name has 1 braces"),
        ("paid_{vat}", "paid_{vat", "field name"),
        ("reply:", "{12m}_reply:", "not YAML|one line"),
        ("fields:\n", "fields: 3\n        words:\n", "line 18: write it as: 中文"),
        (
            "        fields:\n",
            "        fields: 3\n        words:\n          3: 三 | three\n        label:\n",
            "stands twice",
        ),
        ("datasets:\n", "datasets: 3\n    rest:\n", "department tax has no 'rest'; it may have datasets, label"),
        ("NO: 否 | no", "NO: [否, no]", "must be one line of text"),
        ("    01:", "\t01:", "line 8: not YAML"),
    ],
)
def test_a_steward_s_mistake_is_named(old: str, new: str, complaint: str) -> None:
    """Every mistake is refused with the line (where YAML knows it) and what to write instead."""
    with pytest.raises(CatalogInvalid, match=complaint):
        small(old, new)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# nothing",
        b"[]",
        b"a: b",
        b"\xff\xfe",
        b"a: \x00",
        b"--- 1\n--- 2",
        b"[" * 20_000,
        b"&a [*a]",
        b"departments: *x",
    ],
)
def test_what_is_no_catalogue_is_refused(text: bytes) -> None:
    """No bytes make anything but a catalogue or CatalogInvalid."""
    with pytest.raises(CatalogInvalid):
        parse_catalog(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and a huge file are refused without being parsed."""
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    for path in (tmp_path / "none.yaml", tmp_path, huge):
        with pytest.raises(CatalogInvalid):
            load_catalog(path)


def test_a_family_cannot_explode() -> None:
    """A line with many braces is refused before it is expanded."""
    braces = "".join("_{1,2,3,4,5,6,7,8}" for _ in range(20))
    with pytest.raises(CatalogInvalid, match="more than 4096 fields"):
        small("since:", f"since{braces}:")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    """Any damage to a file gives a catalogue or CatalogInvalid, never another error."""
    text = bytearray(SMALL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(CatalogInvalid):
        assert parse_catalog(bytes(text)).fields


def test_the_digest_changes_with_every_meaning_and_with_nothing_else() -> None:
    """Labels, units, codes and the order of fields count; comments and the order of departments do not."""
    digest = small().digest()
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert small("words:", "# a comment\nwords:").digest() == digest
    changes = [
        ("since\n", "from\n"),
        ("CNY", "USD"),
        ("[OR, LA]", "[LA, OR]"),
        ("monthly", "daily"),
        ("税务局", "国税局"),
    ]
    digests = {small(old, new).digest() for old, new in changes}
    assert len(digests) == len(changes)
    assert digest not in digests


def test_a_steward_s_own_file_replaces_everything(tmp_path: Path) -> None:
    """A file with other departments, 64 plain columns and a class loads as well as the built-in one."""
    lines = "".join(f"          attr{n}: number | 指标{n} | Attr{n}\n" for n in range(1, 65))
    path = tmp_path / "own.yaml"
    path.write_text(
        "departments:\n  poland:\n    label: 波兰 | Poland\n    datasets:\n      ratios:\n"
        f"        label: 财务比率 | ratios\n        cadence: yearly\n        fields:\n{lines}",
        "utf-8",
    )
    dataset = load_catalog(path).datasets["poland.ratios"]
    assert isinstance(dataset, Dataset)
    assert [field.name for field in dataset.fields] == [f"attr{n}" for n in range(1, 65)]


def test_the_built_in_catalogue_is_one_value() -> None:
    """It is read once, and what is inside cannot be changed."""
    catalog = load_catalog()
    assert load_catalog() is catalog
    name = random.Random(0).choice(sorted(catalog.fields))
    with pytest.raises(TypeError):
        catalog.fields[name] = catalog.field(name)  # type: ignore[index]
    with pytest.raises(AttributeError):
        catalog.field(name).unit = "USD"  # type: ignore[misc]
