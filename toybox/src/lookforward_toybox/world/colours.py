"""Named colours: besides the pattern, all that captions may say about a subject's appearance."""

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.84, 0.16, 0.16),
    "orange": (0.95, 0.53, 0.13),
    "yellow": (0.96, 0.82, 0.22),
    "green": (0.22, 0.60, 0.27),
    "blue": (0.17, 0.36, 0.80),
    "purple": (0.52, 0.24, 0.70),
    "pink": (0.95, 0.55, 0.70),
    "brown": (0.50, 0.31, 0.17),
    "black": (0.15, 0.15, 0.18),
    "grey": (0.55, 0.56, 0.58),
    "white": (0.94, 0.93, 0.90),
}
WHITE = np.array([0.96, 0.95, 0.92], np.float32)
DARK = np.array([0.13, 0.12, 0.14], np.float32)
METAL = np.array([0.74, 0.76, 0.79], np.float32)


def rgb(name: str, jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """The colour `name` as (3,) float32 in [0, 1], moved by `jitter`, the subject's own shade of it."""
    return np.clip(np.asarray(COLOURS[name]) + np.asarray(jitter), 0.02, 0.98).astype(np.float32)
