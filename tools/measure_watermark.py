"""Measure the invisible watermark: how often it is found after common changes, and in images that have none.

python tools/measure_watermark.py FOLDER --size 256 --output watermark-256.jsonl

FOLDER: photos, searched in all its folders. To them come photos of Toybox's world, enlarged. Every image makes one
line of JSON, with the bits of 32 that were right after each change; an interrupted measurement goes on where it was. At
the end, rates with 95% intervals (Wilson) are printed. docs/provenance.md has the results.
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookforward.provenance.watermark import ENOUGH, METHOD, detect, embed
from lookforward_toybox.subjects import reference_photos
from lookforward_toybox.world.subject import held_out

Pixels = np.ndarray
Change = Callable[[Pixels, np.random.Generator], Pixels]


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The image after JPEG, as Pillow writes it by default."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resize(pixels: Pixels, factor: float) -> Pixels:
    """The image at another size."""
    side = round(len(pixels) * factor)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def crop(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A square with this share of the area, at a random place."""
    side = round(len(pixels) * share**0.5)
    y, x = rng.integers(0, len(pixels) - side + 1, 2)
    return pixels[y : y + side, x : x + side]


CHANGES: Mapping[str, Change] = {
    "none": lambda pixels, rng: pixels,
    "JPEG 75": lambda pixels, rng: jpeg(pixels, 75),
    "resized to 0.5": lambda pixels, rng: resize(pixels, 0.5),
    "resized to 2": lambda pixels, rng: resize(pixels, 2),
    "cropped to 90%": lambda pixels, rng: crop(pixels, 0.9, rng),
    "cropped to 50%": lambda pixels, rng: crop(pixels, 0.5, rng),
}


def images(folder: Path, size: int, drawn: int) -> Iterator[tuple[str, Pixels]]:
    """Names and images (size, size, 3) uint8: photos from `folder`, then `drawn` of Toybox's world."""
    for path in sorted(folder.rglob("*.jp*g")):
        yield f"photo {path.parent.name}/{path.name}", _square(Image.open(path).convert("RGB"), size)
    names = list(held_out())
    for i in range(drawn):
        pixels = reference_photos(names[i % len(names)], count=8, size=128)[i // len(names)]
        yield f"drawn {names[i % len(names)]}/{i // len(names)}", _square(Image.fromarray(pixels), size)


def _square(image: Image.Image, size: int) -> Pixels:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.LANCZOS))


def measure(pixels: Pixels, method: str, seed: int, marked: bool) -> dict[str, Any]:
    """Bits after each change, and without the watermark; PSNR of the watermarked image, dB."""
    clean = detect(pixels, method)
    assert clean is not None, "pip install lookforward[watermark]"
    if not marked:
        return {"clean": clean.bits}
    rng, found = np.random.default_rng(seed), embed(pixels, method)
    error = float(((found.astype(float) - pixels) ** 2).mean())
    bits = {name: detect(change(found, rng), method) for name, change in CHANGES.items()}
    return {
        "clean": clean.bits,
        "psnr": 10 * np.log10(255**2 / error),
        "bits": {name: one.bits for name, one in bits.items() if one is not None},
    }


def interval(hits: int, count: int) -> str:
    """A share and its 95% interval, in percent (Wilson, 1927)."""
    z, share = 1.96, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * ((share * (1 - share) + z**2 / (4 * count)) / count) ** 0.5 / (1 + z**2 / count)
    return f"{100 * share:.1f} [{100 * max(0.0, middle - half):.1f}, {100 * min(1.0, middle + half):.1f}]"


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rates at thresholds around the one in use."""
    marked = [row for row in rows if "bits" in row]
    for least in range(ENOUGH - 2, ENOUGH + 2):
        print(f"{least} of 32 bits{' (in use)' if least == ENOUGH else ''}:")
        for name in CHANGES if marked else ():
            print(f"  {name:16} {interval(sum(row['bits'][name] >= least for row in marked), len(marked))}")
        print(f"  {'no watermark':16} {interval(sum(row['clean'] >= least for row in rows), len(rows))}")
    if marked:
        psnr = [row["psnr"] for row in marked]
        print(f"PSNR: mean {np.mean(psnr):.1f} dB, from {min(psnr):.1f} to {max(psnr):.1f}")
    print(
        f"{len(marked)} images with it, {len(rows)} without; bits without it: at most {max(r['clean'] for r in rows)}"
    )


def main() -> None:
    """Measure what is not measured yet, and print the rates of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--drawn", type=int, default=60)
    parser.add_argument("--count", type=int, default=120, help="images that get the watermark; all are read without it")
    parser.add_argument("--method", default=METHOD, help="rivaGan, dwtDct or dwtDctSvd")
    parser.add_argument("--output", type=Path, default=Path("watermark.jsonl"))
    asked = parser.parse_args()
    lines = asked.output.read_text().splitlines() if asked.output.exists() else []
    rows = [json.loads(line) for line in lines]
    known = {row["name"] for row in rows}
    listed = list(images(asked.folder, asked.size, asked.drawn))
    # Spread over all, so that an interrupted measurement has seen some of each kind
    order = [int(i) for i in np.random.default_rng(0).permutation(len(listed))]
    with asked.output.open("a") as file:
        for place, i in enumerate(order):
            name, pixels = listed[i]
            if name not in known:
                row = {"name": name, **measure(pixels, asked.method, i, place < asked.count)}
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
    show(rows)


if __name__ == "__main__":
    main()
