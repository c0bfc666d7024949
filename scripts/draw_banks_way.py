"""Draws docs/banks-way.svg: who does what, and what travels, from a model to a limit and back.

python scripts/draw_banks_way.py            writes the picture
python scripts/draw_banks_way.py --check    exits with 1 where the picture is not this table's
"""

import sys
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "docs" / "banks-way.svg"
LANES = ("Alice, at the bank", "Bob, at the bank", "the enclave", "the application")
# (lane, column, the command, what it is for)
STEPS = (
    (0, 0, "evidence", "is it the right one?"),
    (0, 1, "lint-rules, inspect", "offline"),
    (0, 2, "seal, submit", "to the key vouched for"),
    (2, 2, "admitted", "behind the walls"),
    (1, 3, "approve, promote", "another person"),
    (2, 3, "champion", "from the next call on"),
    (3, 4, "request", "limit and receipt"),
    (0, 5, "replace-rules", "a cut-off, as a version"),
    (1, 5, "approve, promote", "another person"),
    (2, 5, "another champion", "no call fails"),
    (1, 6, "rollback", "in one call"),
    (2, 6, "the one before", "no call fails"),
    (1, 7, "suspend", "at once, alone"),
    (2, 7, "suspended", "every call is refused"),
)
# (from step, to step)
ARROWS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 9), (10, 11), (12, 13))
LEFT, TOP, WIDE, HIGH, BOX_W, BOX_H = 150, 16, 168, 74, 148, 46
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<title>The bank's way</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>
<style>rect{{stroke:#444;stroke-width:1.5}} .page{{fill:#fff;stroke:none}} .lane0,.lane1{{fill:#e7eef7}}
.lane2{{fill:#e7f4e8}} .lane3{{fill:#f7f1e3}} line{{stroke:#444;stroke-width:1.2}} text{{fill:#222}}
.small{{font-size:11px;fill:#555}} .rule{{stroke:#ddd}}</style>
<rect class="page" x="0" y="0" width="{width}" height="{height}"/>"""


def draw() -> str:
    """The picture: a lane for each who acts, time from left to right."""
    width = LEFT + WIDE * (1 + max(column for _, column, _, _ in STEPS))
    lines = [HEAD.format(width=width, height=TOP + HIGH * len(LANES))]
    for at, lane in enumerate(LANES):
        y = TOP + HIGH * at
        if at:
            lines.append(f'<line class="rule" x1="0" y1="{y - 14}" x2="{width}" y2="{y - 14}"/>')
        lines.append(f'<text x="10" y="{y + 27}">{escape(lane)}</text>')
    lines += [_arrow(STEPS[one], STEPS[other]) for one, other in ARROWS]
    lines += [_box(*step) for step in STEPS]
    return "\n".join((*lines, "</svg>", ""))


def _place(lane: int, column: int) -> tuple[int, int]:
    return LEFT + WIDE * column, TOP + HIGH * lane


def _box(lane: int, column: int, command: str, purpose: str) -> str:
    x, y = _place(lane, column)
    middle = x + BOX_W / 2
    return (
        f'<rect class="lane{lane}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
        f'<text x="{middle}" y="{y + 20}" text-anchor="middle">{escape(command)}</text>'
        f'<text class="small" x="{middle}" y="{y + 36}" text-anchor="middle">{escape(purpose)}</text>'
    )


def _arrow(one: tuple[int, int, str, str], other: tuple[int, int, str, str]) -> str:
    (x, y), (to_x, to_y) = _place(*one[:2]), _place(*other[:2])
    if x == to_x:  # down in its column
        ends = (x + BOX_W // 2, y + BOX_H, to_x + BOX_W // 2, to_y)
    elif y == to_y:
        ends = (x + BOX_W, y + BOX_H // 2, to_x, to_y + BOX_H // 2)
    elif to_y > y:  # out of the side, into the next column's nearer edge
        ends = (x + BOX_W, y + BOX_H // 2, to_x + 30, to_y)
    else:  # up: out of the corner, so that it passes the box beside it
        ends = (x + BOX_W - 6, y, to_x + 12, to_y + BOX_H)
    return '<line x1="{}" y1="{}" x2="{}" y2="{}" marker-end="url(#tip)"/>'.format(*ends)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PICTURE.read_text() != draw())
    PICTURE.write_text(draw())
