"""`heixia bank lint-rules` and `explain-rules` on a bank's own machine, without a server."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from enclave_api.cli.example import RULES
from enclave_api.cli.main import app

FIELDS = """\
tax.declaration.sales_12m: number
tax.arrears.count_12m: integer
tax.declaration.taxpayer_grade: [A, B, NO]
"""
GOOD = """\
version: 1
exclusions:
  - {name: 欠税, when: tax.arrears.count_12m > 2, missing: skip}
caps:
  - {name: a tenth, limit: tax.declaration.sales_12m * 0.1}
cases:
  - name: 店
    values: {tax.arrears.count_12m: 0, tax.declaration.sales_12m: 50000}
    limit: 5000
"""
OFFER = {
    "product": "zhongyuan/quick-loan",
    "model": "model.onnx",
    "rules": "rules.yaml",
    "levels": [0, 1000, 50_000],
    "fields": [{"name": "tax.declaration.sales_12m"}],
    "inputs": [{"name": "x", "dtype": "float64", "fields": ["tax.declaration.sales_12m"]}],
    "output": {"name": "score", "index": 0},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rules, a list of fields, and an offer; no server."""
    monkeypatch.delenv("HEIXIA_AS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(GOOD)
    Path("fields.yaml").write_text(FIELDS)
    Path("offer").mkdir()
    Path("offer/model.onnx").write_bytes(b"")
    one = GOOD.replace("tax.arrears.count_12m: 0, ", "").replace("exclusions:\n", "").splitlines(keepends=True)
    Path("offer/rules.yaml").write_text("".join(line for line in one if "欠税" not in line))
    Path("offer/offer.yaml").write_text(yaml.safe_dump(OFFER))
    return tmp_path


def lint(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["bank", "lint-rules", *words])


@pytest.mark.usefixtures("folder")
def test_rules_by_themselves_are_checked_over_a_list_of_fields() -> None:
    """Cases are run, and what they leave out is shown; exit 0."""
    done = lint("rules.yaml", "--fields", "fields.yaml")
    assert done.exit_code == 0, done.output
    assert "a tenth" in done.stdout
    assert "40.0 %" in done.stdout


@pytest.mark.usefixtures("folder")
def test_a_problem_is_shown_under_its_line() -> None:
    """Place, text, line, a caret under the place where characters are two columns wide, and the hint."""
    Path("rules.yaml").write_text(GOOD.replace("count_12m > 2", "cuont_12m > 2"))
    done = lint("rules.yaml", "--fields", "fields.yaml")
    assert done.exit_code == 1
    line = "  - {name: 欠税, when: tax.arrears.cuont_12m > 2, missing: skip}"
    assert done.stdout.splitlines() == [
        "rules.yaml:3:22: unknown field tax.arrears.cuont_12m",
        f"     3 | {line}",
        f"       | {' ' * 23}^",
        "       = did you mean tax.arrears.count_12m?",
    ]
    assert done.stderr == "error: 1 problem in the rules [rules_invalid]\n"


@pytest.mark.usefixtures("folder")
def test_a_failing_case_is_shown_and_is_exit_1() -> None:
    """At its expectation, with what came out."""
    Path("rules.yaml").write_text(GOOD.replace("limit: 5000", "limit: 50000"))
    done = lint("rules.yaml", "--fields", "fields.yaml")
    assert done.exit_code == 1
    assert "rules.yaml:9:12: case '店': 50,000 is expected, came out 5,000, by 'a tenth'" in done.stdout
    assert "rules_case_failed" in done.stderr
    told = json.loads(lint("rules.yaml", "--fields", "fields.yaml", "--json").stdout)
    assert told["problems"][0]["line"] == 9
    assert told["cases"][0] | {"line": 0} == {
        "case": "店",
        "passed": False,
        "limit": 5000,
        "level": None,
        "decided_by": "a tenth",
        "line": 0,
    }


@pytest.mark.usefixtures("folder")
def test_coverage_is_a_demand_only_where_it_is_made() -> None:
    """Below the wanted percentage: exit 1; the paths that no case takes are in the JSON."""
    assert lint("rules.yaml", "--fields", "fields.yaml", "--require-coverage", "40").exit_code == 0
    short = lint("rules.yaml", "--fields", "fields.yaml", "--require-coverage", "41")
    assert short.exit_code == 1
    assert "40.0 % of the paths, 41 % are wanted" in short.stderr
    told = json.loads(lint("rules.yaml", "--fields", "fields.yaml", "--json").stdout)
    assert told["coverage"]["percent"] == 40.0
    first = {"group": "exclusions", "rule": "欠税", "row": "", "reached": 1, "true": 0, "false": 1, "missing": 0}
    assert told["coverage"]["lines"][0] == first


@pytest.mark.usefixtures("folder")
def test_an_offer_is_checked_with_its_fields_and_levels() -> None:
    """Its folder or its file; types of the packaged catalogue or of a list; what it does not declare is named so."""
    for words in (["offer"], ["offer/offer.yaml"], ["offer", "--fields", "fields.yaml"]):
        done = lint(*words)
        assert done.exit_code == 0, done.output
        assert "1,000" in done.stdout
    undeclared = lint("rules.yaml", "--offer", "offer", "--fields", "fields.yaml")
    assert undeclared.exit_code == 1
    assert "tax.arrears.count_12m is not a field of the manifest" in undeclared.stdout


@pytest.mark.usefixtures("folder")
def test_fields_are_saved_for_work_without_a_server() -> None:
    """What --save-fields writes --fields reads, codes and all."""
    assert lint("rules.yaml", "--fields", "fields.yaml", "--save-fields", "saved.yaml").exit_code == 0
    saved = yaml.load(Path("saved.yaml").read_text(), yaml.BaseLoader)
    assert saved == yaml.load(FIELDS, yaml.BaseLoader)
    assert lint("rules.yaml", "--fields", "saved.yaml").exit_code == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["- 1", "a: money", "[", "a.b.c: [x", "7", "\x00"])
def test_a_list_of_fields_that_is_none_is_one_line(text: str) -> None:
    """No trace; the form is said."""
    Path("fields.yaml").write_text(text)
    done = lint("rules.yaml", "--fields", "fields.yaml")
    assert done.exit_code == 1
    assert "a list of fields maps names to" in done.stderr
    assert isinstance(done.exception, SystemExit)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", [b"\xff\xfe", b"\x1b[31mversion: 1", b"[" * 1000, b"version: 1\n\x9b: 1"])
def test_what_is_no_rules_file_is_said_without_harm(text: bytes) -> None:
    """Bytes that a terminal acts upon are not printed."""
    Path("rules.yaml").write_bytes(text)
    done = lint("rules.yaml", "--fields", "fields.yaml")
    assert done.exit_code == 1
    assert "rules_invalid" in done.stderr
    assert not {"\x1b", "\x9b"} & set(done.output)


@pytest.mark.usefixtures("folder")
def test_a_case_is_explained() -> None:
    """Rule by rule; which one decided; rows and missing fields by name, no value."""
    Path("rules.yaml").write_text(RULES)
    words = ["bank", "explain-rules", "rules.yaml", "good public credit, much risk"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "row 5 false, otherwise" in done.stdout
    assert "decided by  by risk" in done.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (told["limit"], told["decided_by"], told["level"]) == (750_000, "by risk", None)
    assert [step["outcome"] for step in told["steps"]] == ["skip", "skip", 5_000_000.0, 750_000.0, 800_000.0]
    unknown = CliRunner().invoke(app, ["bank", "explain-rules", "rules.yaml", "nobody"])
    assert unknown.exit_code == 1
    assert "a gamble" in unknown.stderr


@pytest.mark.usefixtures("folder")
def test_rules_by_themselves_need_fields_from_somewhere() -> None:
    """A server does not know which fields are meant: wrong usage, with the options that help."""
    done = lint("rules.yaml", "--as", "nowhere")
    assert done.exit_code == 2
    assert "--offer" in done.stderr
