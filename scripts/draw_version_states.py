"""Draws docs/version-states.svg from the tables of a version's life (model_registry/lifecycle.py).

python scripts/draw_version_states.py            writes the picture
python scripts/draw_version_states.py --check    exits with 1 where the picture is not the tables'
"""

import sys
from pathlib import Path

from model_registry.lifecycle import HELD, HOLDERS, TRANSITIONS, Change, State

PICTURE = Path(__file__).parents[1] / "docs" / "version-states.svg"
BOX_W, BOX_H, LEFT, TOP, STEP, END_X = 120, 36, 180, 60, 84, 560
# What brings a change about; a change without a line here stops the drawing.
CAUSES = {
    Change.ADMIT: "the inspection finds nothing",
    Change.REFUSE: "the inspection finds reasons",
    Change.APPROVE: "another person than the submitter",
    Change.PROMOTE: "promoted, or rolled back to",
    Change.REPLACE: "another one is promoted",
    Change.DERIVE: "new rules over its model",
    Change.RETIRE: "its institution",
}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<title>A version's states</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>
<style>rect{{stroke:#444;stroke-width:1.5}} .page{{fill:#fff;stroke:none}} .live{{fill:#e7f4e8}} .end{{fill:#f6e9e7}}
.over{{fill:#fff7df;stroke-dasharray:5 3}} line,path.way{{stroke:#444;stroke-width:1.2;fill:none}} text{{fill:#222}}
.small{{font-size:11px;fill:#555}}</style>
<rect class="page" x="0" y="0" width="{width}" height="{height}"/>
<text x="{left}" y="24">uploaded: submitted</text><text x="{ends}" y="24">ends: no way back</text>"""


def draw() -> str:
    """The picture: states that lead somewhere in a column, ends at its right, what is laid over any of them below."""
    live = [state for state in State if any(origin is state for origin, _ in TRANSITIONS)]
    ends = [state for state in dict.fromkeys(TRANSITIONS.values()) if state not in live]
    (over,) = set(State) - set(live) - set(ends)
    places = {state: (LEFT, TOP + at * STEP) for at, state in enumerate(live)}
    for end in ends:  # at the height of what leads there
        heights = [places[origin][1] for (origin, _), to in TRANSITIONS.items() if to is end]
        places[end] = (END_X, sum(heights) // len(heights))
    below = TOP + len(live) * STEP
    lines = [HEAD.format(width=END_X + BOX_W + 40, height=below + 60 + 16 * len(HOLDERS), left=LEFT, ends=END_X)]
    ways: dict[tuple[State, State], Change] = {(origin, to): what for (origin, what), to in TRANSITIONS.items()}
    for (origin, to), what in ways.items():
        lines.append(_way(places, origin, to, CAUSES[what], to in ends))
    for state, (x, y) in places.items():
        lines.append(_box("end" if state in ends else "live", state, x, y))
    lines.append(_box("over", over, LEFT, below))
    stopped = ", ".join(sorted(f"nobody may {change} it" for change in HELD))
    words = [f"laid over any state, at once: no calls, {stopped}.", "Each lifts its own alone. By:"]
    words += [f"{role}: {whose}" for role, whose in HOLDERS.items()]
    for at, text in enumerate(words):
        lines.append(f'<text class="small" x="{LEFT + BOX_W + 14}" y="{below + 14 + 16 * at}">{text}</text>')
    return "\n".join((*lines, "</svg>", ""))


def _box(kind: str, state: State, x: int, y: int) -> str:
    box = f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
    return f'{box}\n<text x="{x + BOX_W / 2}" y="{y + 23}" text-anchor="middle">{state}</text>'


def _way(places: dict[State, tuple[int, int]], origin: State, to: State, cause: str, ends: bool) -> str:
    (x1, y1), (x2, y2) = places[origin], places[to]
    if origin is to:  # a loop at the box's left
        way = f"M{x1} {y1 + 12}C{x1 - 26} {y1 + 4} {x1 - 26} {y1 + 32} {x1 - 1} {y1 + 24}"
        text = f'<text class="small" x="{x1 - 26}" y="{y1 + 22}" text-anchor="end">{cause}</text>'
        return f'<path class="way" d="{way}" marker-end="url(#tip)"/>{text}'
    if ends:
        half = BOX_H / 2
        text = f'<text class="small" x="{x2}" y="{y2 - 8}">{cause}</text>'
        return _line(x1 + BOX_W, y1 + half, x2 - 1, y2 + half) + text
    down = y2 > y1
    x = LEFT + BOX_W / 2 + (16 if down else -16)
    start, stop = (y1 + BOX_H, y2 - 1) if down else (y1, y2 + BOX_H + 1)
    side = f'x="{x + 6}"' if down else f'x="{x - 6}" text-anchor="end"'
    at = (start + stop) / 2 + (4 if down else -8)
    return _line(x, start, x, stop) + f'<text class="small" {side} y="{at}">{cause}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PICTURE.read_text() != draw())
    PICTURE.write_text(draw())
