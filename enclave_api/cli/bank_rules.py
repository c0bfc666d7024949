"""For banks: their own rules: lint, run the cases, see what the cases leave out, explain a case."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    JsonOption,
    ServerOption,
    counted,
    fail,
    plain_errors,
    show,
    table,
    unused,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_api.cli.rules_source import Source
    from model_registry.errors import Problem

app = typer.Typer()

SourceArgument = Annotated[Path, typer.Argument(help="An offer (its folder or offer.yaml), or a rules file.")]
OfferOption = Annotated[Path | None, typer.Option(help="Check a rules file over this offer's fields and levels.")]
FieldsOption = Annotated[
    Path | None,
    typer.Option(help="A saved list, `name: type` or `name: [code, ...]`, instead of a server."),
]
CatalogOption = Annotated[Path | None, typer.Option(help="A catalogue file, instead of a server.")]
AsOption = Annotated[
    Path | None,
    typer.Option(
        "--as", envvar="HEIXIA_AS", help="Your certificate's folder: ask the server. Without: the packaged catalogue."
    ),
]


@app.command("lint-rules")
def lint_rules(
    source: SourceArgument,
    offer: OfferOption = None,
    fields: FieldsOption = None,
    catalog: CatalogOption = None,
    as_: AsOption = None,
    server: ServerOption = DEFAULT_SERVER,
    require_coverage: Annotated[
        float, typer.Option(help="Fail where the cases take fewer percent of the paths.", min=0, max=100)
    ] = 0,
    save_fields: Annotated[Path | None, typer.Option(help="Write the fields' types to a file for --fields.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile the rules, run their cases, report what the cases cover; offline, or over the server's catalogue.

    A problem is shown with its line and a caret under the place. Exit 0 = the rules compile and every case passes.

        heixia bank lint-rules offer/
        heixia bank lint-rules rules.yaml --offer offer/ --require-coverage 90
        heixia bank lint-rules rules.yaml --fields fields.yaml --json
    """
    from enclave_api.cli import rules_report as report
    from enclave_api.cli.rules_source import Fields, read_source, save_list
    from model_registry.errors import RulesInvalid
    from model_registry.rules.cases import read_rules_file
    from model_registry.rules.coverage import coverage_of

    with plain_errors():
        unused(save_fields)
        read = read_source(source, offer, Fields(fields, catalog, server, as_))
        if save_fields is not None:
            save_list(save_fields, read.fields)
        try:
            file = read_rules_file(read.text, read.kinds, read.codes, read.known)
        except RulesInvalid as error:
            _show_problems(read, error.problems, {"cases": [], "coverage": None}, as_json)
            fail(error.code, f"{counted(len(error.problems), 'problem')} in the rules")
        results = file.run(read.level if read.levels is not None else None)
        coverage = coverage_of(file.rules, results)
        told = {"cases": [report.case_json(r) for r in results], "coverage": report.coverage_json(coverage)}
        problems = [result.problem for result in results if result.problem is not None]
        if not as_json:
            _show_tables(report.case_rows(results), report.coverage_rows(coverage))
        _show_problems(read, problems, told, as_json)
        if problems:
            fail("rules_case_failed", f"{len(problems)} of {counted(len(results), 'case')} failed")
        if coverage.percent < require_coverage:
            text = f"the cases take {coverage.percent:.1f} % of the paths, {require_coverage:g} % are wanted"
            fail("rules_coverage", f"{text}: write a case for each 0 above")
        if not as_json:
            summary = {"rules": len(file.rules.rules), "cases": len(results), "coverage": f"{coverage.percent:.1f} %"}
            show(summary | {"fields": len(read.fields)}, False)


@app.command("explain-rules")
def explain_rules(
    source: SourceArgument,
    case: Annotated[str, typer.Argument(help="The name of a case of the file.")],
    offer: OfferOption = None,
    fields: FieldsOption = None,
    catalog: CatalogOption = None,
    as_: AsOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show rule by rule how a case of the file is decided. On your own machine only: the enclave explains nothing.

    heixia bank explain-rules offer/ "a good shop"
    """
    from enclave_api.cli import rules_report as report
    from enclave_api.cli.rules_source import Fields, read_source
    from model_registry.rules.cases import read_rules_file, run_case

    with plain_errors():
        read = read_source(source, offer, Fields(fields, catalog, server, as_))
        file = read_rules_file(read.text, read.kinds, read.codes, read.known)
        named = {each.text.name.value: each for each in file.cases}
        if case not in named:
            fail("case_unknown", f"no case {case!r}; the file has: {', '.join(map(repr, named)) or 'none'}")
        result = run_case(file.rules, named[case], read.level if read.levels is not None else None)
        if as_json:
            show(report.case_json(result) | {"steps": [report.step_json(step) for step in result.steps]}, True)
            return
        _table(("group", "rule", "looked at", "so"), report.step_rows(result.steps))
        decided = {"limit": f"{result.limit:,}", "decided by": report.printable(result.decided_by)}
        show(decided if result.level is None else decided | {"level": f"{result.level:,}"}, False)
        if result.problem is not None:
            show({"but": report.printable(result.problem.text)}, False)


def _show_tables(cases: list[tuple[str, ...]], coverage: list[tuple[str, ...]]) -> None:
    if cases:
        _table(("case", "", "limit", "level", "decided by"), cases)
        print()  # noqa: T201
    if coverage:
        _table(("group", "rule", "row", "reached", "true", "false", "missing", "covered"), coverage)
        print()  # noqa: T201


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.markup import escape

    table(columns, [tuple(map(escape, row)) for row in rows], False)


def _show_problems(read: "Source", problems: "Sequence[Problem]", told: dict[str, Any], as_json: bool) -> None:
    from enclave_api.cli import rules_report as report

    if as_json:
        show({"file": str(read.path), "problems": [report.problem_json(p) for p in problems], **told}, True)
        return
    source = read.text.decode(errors="replace").split("\n")
    for problem in problems:
        print("\n".join(report.problem_lines(str(read.path), source, problem)))  # noqa: T201
