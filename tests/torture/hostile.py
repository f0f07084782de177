"""Images, names and model folders that somebody made to do harm."""

import io
import json
import os
import random
import shutil
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path

from PIL import Image

from torture.forked import command, in_fork
from torture.outcome import Outcome
from torture.world import World

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".webp", ".gif", ".tiff", ".bmp", "")
ODD = (
    b"", b"\0" * 4096, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file", b"<svg onload='x'/>",
    b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\xff" * 7, b"II*\0" + b"\xff" * 64, b"BM" + b"\xff" * 60, b"\xff\xd8\xff" * 99,
    b"P6 99999 99999 255\n", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"\0\0\0\x20ftypheic",
)  # fmt: skip
PIECES = (
    b"\x1b]0;owned\x07", b"\x1b[2J", b"\x9b31m", b"caf\xe9", b"\xff\xfe", "\u202egnp".encode(), "\u2028".encode(),
    b"\n", b"\r", b"\t", b"%s%n", b"{0.__class__}", b"$(id)", b"`id`", b"<script>", b"[bold]", b"--output", b"'\"",
    b"*?[", "ﬀ犬👩‍🚀".encode(), b" ", b"~", b"\\", b"\x7f", b"..", b"COM1", b"a" * 180,
)  # fmt: skip


def images(world: World, seed: int, count: int) -> list[Outcome]:
    """Hostile files read as a photo and as any other image: an error that names the file, or pixels."""
    place = world.new(f"images-{seed}")
    rng = random.Random(f"images {seed}")
    paths = []
    for number in range(count):
        paths.append(place / f"{number}{rng.choice(SUFFIXES)}")
        paths[-1].write_bytes(_image(rng))
    ended = in_fork(lambda: _read_all(paths))
    bad = dict(line.split(" ", 1) for line in ended.text.splitlines() if line[:1].isdigit())
    if ended.status:  # it crashed, hung or took all memory
        bad |= {str(i): ended.text[-300:] or f"ended with {ended.status}" for i in range(count)}
    return [
        Outcome("hostile image", str(i) not in bad, str(i) not in bad, False, str(i) in bad, bad.get(str(i), ""))
        for i in range(count)
    ]


def _image(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(ODD)
    if kind < 0.35:
        return _bomb(rng)
    size, animated = (rng.choice((1, 300, 640)), rng.choice((1, 300, 3000))), rng.random() < 0.1
    format_, mode = rng.choice(FORMATS), rng.choice(("L", "RGB"))
    data = bytearray(_noise(size, format_, mode, animated and format_ == "GIF"))
    for _ in range(rng.choice((1, 10, 1000))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    head = rng.randrange(64)
    data[head % len(data)] ^= 1 << rng.randrange(8)  # most is decided in the header
    return bytes(data[: rng.randrange(1, len(data))] if rng.random() < 0.3 else data)


@cache
def _noise(size: tuple[int, int], format_: str, mode: str, animated: bool) -> bytes:
    """An image that is whole."""
    buffer = io.BytesIO()
    image = Image.effect_noise(size, 80)
    options = {"save_all": True, "append_images": [image] * 3} if animated else {}
    image.convert(mode).save(buffer, format_, **options)
    return buffer.getvalue()


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _bomb(rng: random.Random) -> bytes:
    """A PNG that says it is huge, and holds many zeros, or a huge text."""
    width, height = rng.choice(((10**5, 10**5), (2**31 - 1, 2**31 - 1), (30_000, 7_000), (512, 512)))
    zeros = _zeros(rng.choice((10**6, 10**8)))
    text = b"Comment\0\0" + zeros
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"zTXt", text)] * rng.choice((0, 1, 3)) + [(b"IDAT", zeros), (b"IEND", b"")]
    made = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def _read_all(paths: list[Path]) -> None:
    from lookforward.data.image_files import ImageError
    from lookforward.data.photo import PhotoError, load_photo
    from lookforward.errors import LookforwardError
    from lookforward.exports.png import read_metadata

    warnings.simplefilter("ignore")
    for number, path in enumerate(paths):
        for read, refusal in (
            (lambda p: load_photo(p, 64), PhotoError),
            (_load, ImageError),
            (read_metadata, LookforwardError),
        ):
            try:
                read(path)
            except refusal:
                pass
            except BaseException as error:
                print(number, read, type(error).__name__, error, flush=True)


def _load(path: Path) -> None:
    from lookforward.data.image_files import opened_image

    with opened_image(path) as image:
        image.convert("RGB")


def names(world: World, seed: int, count: int) -> list[Outcome]:
    """Photos, captions and folders of hostile names and texts: printed without control characters."""
    rng, outcomes = random.Random(f"names {seed}"), []
    for number in range(count):
        place = world.new(f"names-{seed}-{number}")
        folder = place / os.fsdecode(_name(rng))
        folder.mkdir()
        for i, photo in enumerate(sorted((world.folder / "photos").glob("*.png"))):
            name = os.fsdecode(b"%d " % i + _name(rng))
            shutil.copy(photo, folder / f"{name}.png")
            if rng.random() < 0.5:
                (folder / f"{name}.txt").write_bytes(b"a sks teapot " + _name(rng) * rng.choice((1, 1, 400)))
        if rng.random() < 0.5:
            (folder / os.fsdecode(_name(rng) + b".png")).write_bytes(b"no image")
        if rng.random() < 0.3:
            (folder / "secret.txt").symlink_to("/etc/passwd")
        named = ["train", folder, "--class-noun", "teapot", "--model", world.folder / "model"]
        ended = in_fork(command(*named, "--data.resolution", 32, "--dry-run", "--output", place / "run"))
        hidden = sorted(
            {c for c in ended.text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2028"}
        )
        leaked = "root:x:" in ended.text
        good = ended.status in (0, 2) and not hidden and not leaked
        note = f"{ended.status} {hidden} {ended.text[-400:]!r}"
        outcomes.append(Outcome("hostile name", good, good, False, ended.traceback, note))
    return outcomes


def _name(rng: random.Random) -> bytes:
    made = b"".join(rng.choice(PIECES) for _ in range(rng.randint(1, 3))).replace(b"/", b"_")[:200]
    return made if made not in (b".", b"..") else b"..."


def models(world: World, seed: int, count: int) -> list[Outcome]:
    """Pipeline folders that are damaged or run code: refused, or drawn from as far as they are sound."""
    rng, outcomes = random.Random(f"models {seed}"), []
    for number in range(count):
        place = world.new(f"models-{seed}-{number}")
        folder, mark = Path(shutil.copytree(world.folder / "model", place / "model")), place / "executed"
        how = _harm(rng, folder, mark)
        ended = in_fork(lambda where=folder: _build(where))
        refused = ended.status == 0
        good = refused and not mark.exists()
        note = f"{how}: {ended.status} {ended.text[-400:]}"
        outcomes.append(Outcome("hostile model folder", good, good, mark.exists(), ended.traceback, note))
    return outcomes


def _build(folder: Path) -> None:
    from lookforward.errors import LookforwardError
    from lookforward.models.load_pipeline import build_pipeline

    try:
        build_pipeline(str(folder), "cpu")
        print("loaded")
    except LookforwardError as error:
        print(f"refused: {error}")


JSONS = ("[]", "{}", "null", "[" * 10**5, '{"a": NaN}', "9" * 5000, '"x"', "", "\0", '{"_class_name": ["a"]}')
VALUES = (None, -1, 10**12, "x" * 10**5, [], {}, [["a"]], 1e308, True, "../../etc", "os.system")


def _harm(rng: random.Random, folder: Path, mark: Path) -> str:
    configs = sorted(folder.rglob("*.json"))
    weights = sorted(folder.rglob("*.safetensors"))
    path = rng.choice(configs)
    match rng.randrange(6):
        case 0:
            path.write_text(text := rng.choice(JSONS))
            return f"{path.name} is {text[:30]!r}"
        case 1:
            values = json.loads(path.read_text())
            key = rng.choice(sorted(values)) if isinstance(values, dict) and values else "x"
            if isinstance(values, dict):
                values[key] = value = rng.choice(VALUES)
                path.write_text(json.dumps(values))
                return f"{path.parent.name}/{path.name}: {key} is {str(value)[:30]!r}"
            return "nothing"
        case 2:
            code = f"open({str(mark)!r}, 'w').write('x')\nclass Model: pass\n"
            (folder / "pipeline.py").write_text(code)
            (folder / "unet" / "custom.py").write_text(code)
            index = json.loads((folder / "model_index.json").read_text())
            index |= rng.choice(({"_class_name": ["pipeline", "Model"]}, {"unet": ["custom", "Model"]}))
            (folder / "model_index.json").write_text(json.dumps(index))
            return "code in the folder"
        case 3:
            victim = rng.choice(weights)
            victim.unlink()
            victim.with_suffix(".bin").write_bytes(b"cposix\nsystem\n(S'touch " + os.fsencode(mark) + b"'\ntR.")
            return f"a pickle in place of {victim.name}"
        case 4:
            victim = rng.choice(weights)
            data = bytearray(victim.read_bytes())
            data[rng.randrange(64)] ^= 1 << rng.randrange(8)
            victim.write_bytes(data if rng.random() < 0.7 else data[: rng.randrange(len(data))])
            return f"{victim.name} is damaged in its header"
        case _:
            path.unlink()
            return f"{path.parent.name}/{path.name} is gone"
