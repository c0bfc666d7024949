"""Draws docs/consent-states.svg from the table of a consent's life (sandbox/consent_life.py).

python scripts/draw_consent_states.py            writes the picture
python scripts/draw_consent_states.py --check    exits with 1 where the picture is not the table's
"""

import sys
from pathlib import Path

from sandbox.consent_life import TRANSITIONS, Change, State

PICTURE = Path(__file__).parents[1] / "docs" / "consent-states.svg"
BOX_W, BOX_H, LEFT, END_X, TOP, STEP = 130, 36, 30, 380, 44, 56
# What brings a change about; a change without a line here stops the drawing.
CAUSES = {
    Change.PAUSE: "pause",
    Change.RESUME: "resume",
    Change.REVOKE: "its authority or its subject revokes it",
    Change.SUPERSEDE: "a newer consent that replaces it is registered",
    Change.INVALIDATE: "its authority loses its standing",
    Change.EXHAUST: "its last use is spent",
    Change.EXPIRE: "its time is over",
}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<title>A consent's states</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>
<style>rect{{stroke:#444;stroke-width:1.5}} .page{{fill:#fff;stroke:none}} .live{{fill:#e7f4e8}} .end{{fill:#f6e9e7}}
line{{stroke:#444;stroke-width:1.2}} text{{fill:#222}} .small{{font-size:11px;fill:#555}}</style>
<rect class="page" x="0" y="0" width="{width}" height="{height}"/>
<text x="{left}" y="24">registered: granted</text><text x="{ends}" y="24">ends: no way back</text>"""


def draw() -> str:
    """The picture: states that lead somewhere on the left, ends on the right in the order of the table."""
    live = [state for state in State if any(origin is state for origin, _ in TRANSITIONS)]
    ends = list(dict.fromkeys(to for to in TRANSITIONS.values() if to not in live))
    places = {state: (LEFT, TOP + (2 * at + 1) * STEP) for at, state in enumerate(live)}
    places |= {state: (END_X, TOP + at * STEP) for at, state in enumerate(ends)}
    size = {"width": END_X + BOX_W + 300, "height": TOP + len(ends) * STEP + 4, "left": LEFT, "ends": END_X}
    lines = [HEAD.format(**size)]
    for (origin, change), to in TRANSITIONS.items():
        lines.append(
            _inside(places[origin], places[to], CAUSES[change]) if to in live else _outside(places[origin], places[to])
        )
    causes = {to: CAUSES[change] for (_, change), to in TRANSITIONS.items() if to not in live}
    for state, cause in causes.items():
        x, y = places[state]
        lines.append(f'<text class="small" x="{x + BOX_W + 10}" y="{y + 22}">{cause}</text>')
    for state, (x, y) in places.items():
        kind = "live" if state in live else "end"
        lines.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>')
        lines.append(f'<text x="{x + BOX_W / 2}" y="{y + 23}" text-anchor="middle">{state}</text>')
    return "\n".join((*lines, "</svg>", ""))


def _inside(origin: tuple[int, int], to: tuple[int, int], cause: str) -> str:
    """Down on the right, up on the left."""
    down = to[1] > origin[1]
    x = LEFT + BOX_W / 2 + (20 if down else -20)
    y1, y2 = (origin[1] + BOX_H, to[1] - 1) if down else (origin[1], to[1] + BOX_H + 1)
    side = f'x="{x + 6}"' if down else f'x="{x - 6}" text-anchor="end"'
    return _line(x, y1, x, y2) + f'<text class="small" {side} y="{(y1 + y2) / 2 + 4}">{cause}</text>'


def _outside(origin: tuple[int, int], to: tuple[int, int]) -> str:
    return _line(origin[0] + BOX_W, origin[1] + BOX_H / 2, to[0] - 1, to[1] + BOX_H / 2)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PICTURE.read_text() != draw())
    PICTURE.write_text(draw())
