"""What a live subject can wear: the accessories and outfits of the DreamBooth benchmark's prompts for cats and dogs.

A garment is painted over the body and before the head, headwear after the face.
"""

from dataclasses import dataclass

import numpy as np

from lookforward_toybox.world.canvas import Array, Painter, box, capsule, circle, ellipse, polygon

OUTFITS: dict[str, str] = {
    "red hat": "wearing a red hat",
    "santa hat": "wearing a santa hat",
    "rainbow scarf": "wearing a rainbow scarf",
    "top hat": "wearing a black top hat and a monocle",
    "chef": "in a chef outfit",
    "firefighter": "in a firefighter outfit",
    "police": "in a police outfit",
    "pink glasses": "wearing pink glasses",
    "yellow shirt": "wearing a yellow shirt",
    "wizard": "in a purple wizard outfit",
}

RED, WHITE, BLACK = (0.82, 0.12, 0.14), (0.96, 0.95, 0.93), (0.11, 0.11, 0.13)
GOLD, NAVY, PURPLE = (0.95, 0.76, 0.22), (0.13, 0.19, 0.42), (0.45, 0.2, 0.62)
PINK, YELLOW, REFLECTIVE = (0.96, 0.38, 0.62), (0.97, 0.83, 0.16), (0.86, 0.92, 0.3)
RAINBOW = ((0.88, 0.2, 0.2), (0.96, 0.6, 0.15), (0.96, 0.88, 0.25), (0.25, 0.7, 0.32), (0.2, 0.4, 0.85))
COATS = {"chef": WHITE, "firefighter": (0.72, 0.13, 0.1), "police": NAVY, "yellow shirt": YELLOW, "wizard": PURPLE}


@dataclass(frozen=True)
class Figure:
    """Where clothes go: the head's centre and radius, the body's centre and half-axes, in local units."""

    head_x: float
    head_y: float
    head_r: float
    body_x: float
    body_y: float
    body_a: float
    body_b: float


def paint_garment(p: Painter, outfit: str | None, f: Figure) -> None:
    """What is worn on the body: nothing if the accessory is for the head alone."""
    if outfit not in COATS:
        return
    u, v = p.u, p.v
    neck = min(f.body_y + f.body_b, f.head_y - f.head_r * 0.7)
    coat = ellipse(u, v, f.body_x, f.body_y, f.body_a + 0.05, f.body_b + 0.03)
    hem = f.body_y - f.body_b * (0.95 if outfit == "wizard" else 0.62)
    shape = np.maximum(coat, hem - v)
    if outfit == "wizard":  # a robe that widens to the ground
        wide, x = f.body_a + 0.16, f.body_x
        robe = [(x - wide, hem), (x + wide, hem), (x + f.body_a * 0.6, neck), (x - f.body_a * 0.6, neck)]
        shape = np.minimum(shape, polygon(u, v, robe, 0.03))
    p.part(shape, _rgb(COATS[outfit]), bulge=0.35, shine=0.1)
    match outfit:
        case "chef":  # two rows of buttons
            _dots(p, f, BLACK, (-0.16, 0.16), (0.25, -0.05, -0.35))
        case "firefighter":
            for rise in (0.12, -0.38):
                band = np.maximum(np.abs(v - f.body_y - rise * f.body_b) - 0.075, shape + 0.01)
                p.part(band, _rgb(REFLECTIVE), bulge=0.1, outline=0.8)
        case "police":  # a tie and a badge
            tie = [(f.body_x - 0.07, neck), (f.body_x + 0.07, neck), (f.body_x, f.body_y - 0.1)]
            p.part(polygon(u, v, tie, 0.02), _rgb(BLACK), bulge=0.05)
            p.part(circle(u, v, f.body_x + f.body_a * 0.55, f.body_y + f.body_b * 0.4, 0.1), _rgb(GOLD), bulge=0.06)
        case "wizard":
            _dots(p, f, GOLD, (-0.3, 0.34), (0.2, -0.4))
        case _:  # a shirt: its collar
            for side in (-1, 1):
                flap = [(f.body_x, neck - 0.16), (f.body_x + side * 0.26, neck + 0.02), (f.body_x, neck + 0.04)]
                p.part(polygon(u, v, flap, 0.02), _rgb(YELLOW) * 0.9, bulge=0.05)


def paint_headwear(p: Painter, outfit: str | None, f: Figure) -> None:
    """What is worn on the head, the face or the neck."""
    u, v = p.u, p.v
    x, top, r = f.head_x, f.head_y + f.head_r * 0.72, f.head_r
    match outfit:
        case "red hat":
            dome = np.maximum(ellipse(u, v, x, top, r * 0.72, r * 0.72), top - v)
            p.part(dome, _rgb(RED), bulge=0.3, shine=0.15)
            p.part(ellipse(u, v, x, top + 0.01, r * 1.12, 0.09), _rgb(RED) * 0.85, bulge=0.08)
        case "santa hat":
            _cone(p, x, top, r * 0.85, (x + r * 0.75, top + r * 1.05), RED)
            p.part(box(u, v, x, top, r * 0.95, 0.1, 0.1), _rgb(WHITE), bulge=0.1, shine=0.0, outline=0.8)
            p.part(circle(u, v, x + r * 0.8, top + r * 1.05, 0.12), _rgb(WHITE), bulge=0.12, shine=0.0, outline=0.8)
        case "rainbow scarf":
            _scarf(p, f)
        case "top hat":
            p.part(box(u, v, x, top + r * 0.55, r * 0.56, r * 0.6, 0.03), _rgb(BLACK), bulge=0.2, shine=0.35)
            p.part(box(u, v, x, top + r * 0.12, r * 0.57, 0.06), _rgb(RED), bulge=0.1, outline=0.9)
            p.part(ellipse(u, v, x, top, r * 1.05, 0.08), _rgb(BLACK), bulge=0.08, shine=0.3)
            eye = circle(u, v, x + r * 0.45, f.head_y + r * 0.15, r * 0.34)
            p.part(np.abs(eye) - 0.035, _rgb(GOLD), bulge=0.05, shine=0.4, outline=0.8)
            chain = ((x + r * 0.75, f.head_y), (x + r * 0.9, f.head_y - r * 0.8))
            p.part(capsule(u, v, *chain, 0.025), _rgb(GOLD), bulge=0.05, outline=0.8)
        case "chef":
            p.part(box(u, v, x, top + r * 0.2, r * 0.6, r * 0.34, 0.03), _rgb(WHITE), bulge=0.2, shine=0.05)
            for lean in (-0.5, 0.5, 0.0):
                puff = circle(u, v, x + lean * r, top + r * (0.66 if lean else 0.78), r * 0.42)
                p.part(puff, _rgb(WHITE), bulge=0.3, shine=0.05, outline=0.8)
        case "firefighter":
            dome = np.maximum(ellipse(u, v, x, top - 0.02, r * 0.84, r * 0.72), top - 0.04 - v)
            p.part(dome, _rgb(RED), bulge=0.3, shine=0.5)
            p.part(ellipse(u, v, x, top - 0.02, r * 1.22, 0.09), _rgb(RED) * 0.8, bulge=0.08, shine=0.3)
            p.part(polygon(u, v, _shield(x, top + r * 0.28, r * 0.28)), _rgb(GOLD), bulge=0.08, shine=0.4)
        case "police":
            crown = [(x - r, top + r * 0.5), (x + r, top + r * 0.5), (x + r * 0.72, top), (x - r * 0.72, top)]
            p.part(polygon(u, v, crown, 0.05), _rgb(NAVY), bulge=0.2, shine=0.15)
            p.part(ellipse(u, v, x, top - 0.02, r * 0.8, 0.09), _rgb(BLACK), bulge=0.08, shine=0.5)
            p.part(polygon(u, v, _shield(x, top + r * 0.28, r * 0.22)), _rgb(GOLD), bulge=0.08, shine=0.4)
        case "pink glasses":
            _glasses(p, f)
        case "wizard":
            _cone(p, x, top, r * 0.8, (x, top + r * 1.5), PURPLE)
            p.part(ellipse(u, v, x, top, r * 1.25, 0.1), _rgb(PURPLE) * 0.85, bulge=0.1)
            for lean, rise in ((-0.15, 0.4), (0.16, 0.72)):
                p.part(circle(u, v, x + lean * r, top + rise * r, 0.06), _rgb(GOLD), bulge=0.05, outline=1.0)
        case _:
            pass


def _rgb(colour: tuple[float, float, float]) -> Array:
    return np.array(colour, np.float32)


def _cone(
    p: Painter, x: float, foot: float, half: float, tip: tuple[float, float], colour: tuple[float, float, float]
) -> None:
    points = [(x - half, foot), (x + half, foot), tip]
    p.part(polygon(p.u, p.v, points, 0.03), _rgb(colour), bulge=0.25, shine=0.1)


def _shield(x: float, y: float, r: float) -> list[tuple[float, float]]:
    return [(x - r, y + r), (x + r, y + r), (x + r * 0.8, y - r * 0.3), (x, y - r), (x - r * 0.8, y - r * 0.3)]


def _dots(
    p: Painter, f: Figure, colour: tuple[float, float, float], xs: tuple[float, ...], ys: tuple[float, ...]
) -> None:
    for x in xs:
        for y in ys:
            spot = circle(p.u, p.v, f.body_x + x, f.body_y + y * f.body_b, 0.05)
            p.part(spot, _rgb(colour), bulge=0.05, outline=1.0)


def _scarf(p: Painter, f: Figure) -> None:
    """Around the neck, one end hanging down; striped across."""
    y = f.head_y - f.head_r - 0.02
    half = f.head_r * 0.95
    p.part(box(p.u, p.v, f.head_x, y, half, 0.13, 0.12), _stripes((p.u - f.head_x + half) / (2 * half)), bulge=0.12)
    end = box(p.u, p.v, f.head_x - half * 0.85, y - 0.3, 0.13, 0.28, 0.04)
    p.part(end, _stripes((y + 0.02 - p.v) / 0.62), bulge=0.1)


def _stripes(along: Array) -> Array:
    """Twice the colours of the rainbow along [0, 1], (h, w, 3)."""
    return np.asarray(RAINBOW, np.float32)[(np.clip(along, 0, 0.999) * 2 * len(RAINBOW)).astype(int) % len(RAINBOW)]


def _glasses(p: Painter, f: Figure) -> None:
    y, gap, r = f.head_y + f.head_r * 0.15, f.head_r * 0.48, f.head_r * 0.4
    p.part(box(p.u, p.v, f.head_x, y + 0.03, f.head_r * 1.1, 0.04), _rgb(PINK), bulge=0.04)
    for side in (-1, 1):
        lens = circle(p.u, p.v, f.head_x + side * gap, y, r)
        p.part(np.abs(lens) - 0.06, _rgb(PINK), bulge=0.06, shine=0.3)
