"""How `heixia jail run` runs a file: this module's text is sent behind the walls together with the file's bytes.

Nothing here is called in the operator's own process. It imports what the zygote has imported already, because behind
the walls an import that opens a file ends the process.
"""

import io
import sys
from collections.abc import Callable
from typing import Any

PRINTED_BYTES_MAX = 60_000  # below what the channel takes in one answer
_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; the module `ast` need not be there
# What the file is compiled as. For a SyntaxError's text Python opens the file of that name, which would end the process
# here: this is a name that no path can have, so it is not tried.
_NO_FILE = "\ud800"


def prepare(source: bytes, name: str) -> Callable[[bytes], bytes]:
    """Make a file's bytes into a drill's `run`; called as the template.

    A file that defines `run` at its top level has that level executed here, as the template, and `run(request)` as the
    one-shot. Any other file is executed whole as the one-shot, with `request` as a variable; its variable `answer`, or
    else what it printed, is the answer.

    Args:
        source: Python, of any author.
        name: of the file, for the text of errors.

    Returns:
        request → answer. An exception comes back as text, `!` before it.
    """
    sys.stdout = sys.stderr = printed = io.StringIO()  # the real ones are closed behind the walls
    space: dict[str, Any] = {"__name__": "drill"}

    def failed(error: BaseException) -> bytes:
        text = f"!{type(error).__name__}: {error}{_line(error)}"
        return text.replace(_NO_FILE, name).encode(errors="replace")

    def script(request: bytes) -> object:
        space.update(__name__="__main__", request=request)
        exec(compile(source, _NO_FILE, "exec"), space)  # noqa: S102 - behind the walls; see the module's docstring
        return space.get("answer")

    def answer(request: bytes) -> bytes:
        found: object = None
        try:
            found = space.get("run", script)(request)
        except SystemExit:
            pass
        except Exception as error:
            return failed(error)
        said = printed.getvalue().encode(errors="replace")[:PRINTED_BYTES_MAX] if found is None else _bytes(found)
        return said or b"\n"  # a message without bytes would read as a closed channel

    try:
        tree = compile(source, _NO_FILE, "exec", _ONLY_AST)
        if any(getattr(node, "name", "") == "run" for node in tree.body):
            exec(compile(tree, _NO_FILE, "exec"), space)  # noqa: S102 - as above
    except (Exception, SystemExit) as error:
        kept = failed(error)
        return lambda _: kept
    return answer


def _bytes(found: object) -> bytes:
    if isinstance(found, (bytes, bytearray, memoryview)):
        return bytes(found)
    return (found if isinstance(found, str) else repr(found)).encode(errors="replace")


def _line(error: BaseException) -> str:
    """Where in the file it happened; "" where the error says so itself, as a SyntaxError does."""
    line, at = 0, error.__traceback__
    while at is not None:
        line = at.tb_lineno if at.tb_frame.f_code.co_filename == _NO_FILE else line
        at = at.tb_next
    return f" ({_NO_FILE}, line {line})" if line else ""
