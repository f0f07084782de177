"""Photos become a Subject, or one message that names every bad photo and its remedy."""

import hashlib
import os
import re
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from errors import raises
from lookforward.data.photo import PhotoError, central_square, load_photo
from lookforward.data.subject import Subject, check_identifier, load_subject
from lookforward.errors import LookforwardError

DOG = Path(__file__).parents[2] / "shared" / "datasets" / "dreambooth" / "dog"


def load(photos: Path | str | list[Path], resolution: int = 64, *, allow_few: bool = True) -> Subject:
    return load_subject(photos, class_noun="dog", resolution=resolution, allow_few=allow_few)


def pixels_of(photo: Path, resolution: int = 64) -> np.ndarray:
    return load_photo(photo, resolution).pixels


def noise(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb_png(width: int, height: int) -> bytes:
    """A complete 1-bit greyscale PNG, compressed row by row so that making it takes no memory either."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    """A folder of four good photos."""
    folder = tmp_path / "dog"
    folder.mkdir()
    for index in range(4):
        save(noise(80, 70, index), folder / f"{index}.png")
    return folder


def test_folder(dog: Path) -> None:
    for side_file in (".DS_Store", "._1.png", "notes.txt", "metadata.json", "clip.mov"):
        (dog / side_file).write_bytes(b"not a photo")
    (dog / "samples").mkdir()
    subject = load(dog, allow_few=False)
    assert [photo.path.name for photo in subject.photos] == ["0.png", "1.png", "2.png", "3.png"]
    assert subject.notes == ()
    assert subject.prompt == "a photo of sks dog"
    assert subject.class_prompt == "a photo of dog"
    for photo in subject.photos:
        assert photo.pixels.shape == (64, 64, 3)
        assert photo.pixels.dtype == np.uint8
        assert not photo.pixels.flags.writeable
        assert photo.digest == hashlib.sha256(photo.path.read_bytes()).hexdigest()


def test_list_keeps_its_order_and_folder_may_be_a_string_or_the_only_entry(dog: Path) -> None:
    chosen = [dog / "2.png", dog / "0.png", dog / "1.png"]
    assert [photo.path for photo in load(chosen, allow_few=False).photos] == chosen
    assert len(load(str(dog)).photos) == len(load([dog]).photos) == 4
    assert len(load(dog / "0.png").photos) == 1


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_central_square(width: int, height: int) -> None:
    left, top, right, bottom = central_square(width, height)
    assert right - left == bottom - top == min(width, height)
    assert 0 <= (width - right) - left <= 1
    assert 0 <= (height - bottom) - top <= 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(32, 90), st.integers(32, 90))
def test_crop_alone_changes_no_pixel(tmp_path: Path, width: int, height: int) -> None:
    image = noise(width, height)
    pixels = pixels_of(save(image, tmp_path / "a.png"), min(width, height))
    assert np.array_equal(pixels, np.asarray(image.crop(central_square(width, height))))


def test_resize_is_antialiased(tmp_path: Path) -> None:
    checkerboard = np.indices((256, 256)).sum(axis=0) % 2 * 255
    photo = save(Image.fromarray(checkerboard.astype(np.uint8)), tmp_path / "a.png")
    assert np.abs(pixels_of(photo, 64)[8:-8, 8:-8].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((96, 64, 3), np.uint8)
    upright[:48, :32], upright[:48, 32:], upright[48:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # What the camera stores, so that a viewer that obeys the orientation shows `upright`.
    flipped = upright[:, ::-1]
    stored = {
        1: upright,
        2: flipped,
        3: np.rot90(upright, 2),
        4: upright[::-1],
        5: np.rot90(flipped, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(flipped, -1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if suffix in {"jpg", "webp"} else {}
    image = Image.fromarray(np.ascontiguousarray(stored))
    pixels = pixels_of(save(image, tmp_path / f"a.{suffix}", exif=exif, **quality), 32)
    for (row, column), colour in {
        (6, 6): (255, 0, 0),
        (6, 26): (0, 255, 0),
        (26, 6): (0, 0, 255),
        (26, 26): (0, 0, 0),
    }.items():
        assert np.abs(pixels[row, column].astype(int) - colour).max() < 40


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    red, green, blue = pixels_of(save(cyan, tmp_path / f"a.{suffix}"))[32, 32]
    assert red < 60
    assert green > 150
    assert blue > 150


def test_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path: Path) -> None:
    grey = Image.new("RGB", (64, 64), (200, 120, 60))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = pixels_of(save(grey, tmp_path / "srgb.png", icc_profile=srgb))[0, 0].astype(int)
    assert np.abs(same - (200, 120, 60)).max() <= 1
    exchange = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}  # a colour space whose red is sRGB's green
    exchanged = re.sub(rb"[rg]XYZ", lambda tag: exchange[tag[0]], srgb)
    other = pixels_of(save(grey, tmp_path / "other.png", icc_profile=exchanged))[0, 0].astype(int)
    assert np.abs(other - (120, 200, 60)).max() <= 1
    broken = pixels_of(save(grey, tmp_path / "broken.png", icc_profile=b"nonsense"))
    assert tuple(broken[0, 0]) == (200, 120, 60)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    mismatched = pixels_of(save(grey, tmp_path / "lab.png", icc_profile=lab))
    assert tuple(mismatched[0, 0]) == (200, 120, 60)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    pixels = pixels_of(save(Image.fromarray(ramp), tmp_path / f"a.{suffix}"))
    assert np.abs(pixels[0, :, 0] - ramp[0] / 257).max() <= 0.51
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bit_colour_png(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0x0101) * 64
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
    body = header + chunk(b"IDAT", zlib.compress(row * 64)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert tuple(pixels_of(tmp_path / "a.png")[0, 0]) == (255, 128, 1)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert pixels_of(save(clear, tmp_path / "a.png")).min() == 255
    assert pixels_of(save(clear.convert("LA"), tmp_path / "b.png")).min() == 255
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert tuple(pixels_of(save(palette, tmp_path / "c.png"))[0, 0]) == (10, 20, 30)
    assert pixels_of(save(palette, tmp_path / "d.gif", transparency=1)).min() == 255


@pytest.mark.parametrize(("mode", "suffix"), [("1", "png"), ("L", "bmp"), ("L", "jpg"), ("P", "gif"), ("YCbCr", "tif")])
def test_every_other_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    white = Image.new("RGB", (64, 64), "white").convert(mode)
    assert pixels_of(save(white, tmp_path / f"a.{suffix}")).min() >= 254


def test_phone_jpeg_with_a_second_picture_is_a_photo(tmp_path: Path) -> None:
    image = Image.new("RGB", (640, 480), (200, 120, 60))
    photo = save(image, tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[image.reduce(4)])
    assert np.abs(pixels_of(photo)[32, 32].astype(int) - (200, 120, 60)).max() <= 3


def bad_photos(folder: Path) -> dict[str, str]:
    """Every kind of bad photo, written into the folder, with the code of its error."""
    noise().save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    frames = [noise(seed=1), noise(seed=2)]
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(folder / f"moves.{suffix}", save_all=True, append_images=frames[1:])
    (folder / "text.jpg").write_text("this is a caption\n")
    (folder / "page.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").touch()
    (folder / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (folder / "IMG.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (folder / "folder.jpg").mkdir()
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    noise(200, 31).save(folder / "tiny.png")
    Image.fromarray(np.zeros((64, 64), np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((64, 64), 1 << 20, np.int32)).save(folder / "deep.tif")
    (folder / "bomb.png").write_bytes(bomb_png(30_000, 30_000))
    (folder / "large.png").write_bytes(bomb_png(10_100, 10_000))
    return {
        **{f"moves.{suffix}": "photo-animated" for suffix in ("gif", "webp", "png", "tif")},
        "text.jpg": "photo-format",
        "page.jpg": "photo-format",
        "cut.jpg": "photo-damaged",
        "zero.png": "photo-empty",
        "phone.jpg": "photo-format",
        "IMG.HEIC": "photo-format",
        "folder.jpg": "photo-folder",
        "lost.jpg": "photo-unreadable",
        "pipe.jpg": "photo-unreadable",
        "tiny.png": "photo-too-small",
        "float.tif": "photo-depth",
        "deep.tif": "photo-depth",
        "bomb.png": "photo-too-large",
        "large.png": "photo-too-large",
    }


def test_every_bad_photo_is_named_in_one_message(dog: Path) -> None:
    expected = bad_photos(dog)
    paths = [dog / name for name in expected]
    with raises("photos-unusable", len(expected), len(expected) + 4, f"{dog}{os.sep}", *paths) as caught:
        load(dog)
    assert len(str(caught.value).splitlines()) == 1 + len(expected)
    for path, code in zip(paths, expected.values(), strict=True):
        with pytest.raises(PhotoError) as one:
            load_photo(path, 64)
        assert one.value.code == code, path.name


def test_one_bad_photo_is_one_line(dog: Path) -> None:
    (dog / "4.jpg").write_text("caption")
    with raises("photo-format", dog / "4.jpg") as caught:
        load(dog)
    assert "\n" not in str(caught.value)


def test_many_bad_photos_are_counted(dog: Path) -> None:
    for index in range(25):
        (dog / f"x{index}.jpg").touch()
    with raises("photos-unusable", 25, "and 5 more") as caught:
        load(dog)
    assert len(str(caught.value).splitlines()) == 1 + 20 + 1


@pytest.mark.parametrize("pillows_own_limit", [Image.MAX_IMAGE_PIXELS, None])
def test_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillows_own_limit: int | None
) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb_png(30_000, 30_000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_own_limit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the bomb went off"))
    with raises("photo-too-large", "100 megapixels"):
        load(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    st.none() | st.integers(0, 5000),
)
def test_a_damaged_photo_is_read_or_refused(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    buffer = BytesIO()
    noise(40, 36).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    for position, value in changes:
        data[position % len(data)] = value
    (tmp_path / "a.jpg").write_bytes(data[:cut])
    with suppress(LookforwardError):  # and nothing else
        assert pixels_of(tmp_path / "a.jpg", 32).shape == (32, 32, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_unreadable_file_and_folder(dog: Path) -> None:
    (dog / "1.png").chmod(0)
    with raises("photo-unreadable", dog / "1.png", "Permission denied"):
        load(dog)
    dog.chmod(0)
    try:
        with raises("photos-unreadable", dog, "Permission denied"):
            load(dog)
    finally:
        dog.chmod(0o700)


def test_unreadable_file_and_folder_for_any_user(dog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with raises("photos-unusable", dog / "1.png", "Permission denied"):
        load(dog)
    monkeypatch.setattr(Path, "iterdir", deny)
    with raises("photos-unreadable", dog, "Permission denied"):
        load(dog)


def test_missing_and_empty(tmp_path: Path) -> None:
    for photos, code in {
        tmp_path / "nowhere": "photos-missing",
        tmp_path: "photos-missing",
        "nul\0byte": "photos-missing",
        (): "photos-missing",
        (tmp_path / "a.jpg", tmp_path / "b.jpg"): "photos-unusable",
    }.items():
        with raises(code):
            load(list(photos) if isinstance(photos, tuple) else photos)


def test_few_photos(dog: Path) -> None:
    for count, name in ((2, "2 photos"), (1, "1 photo")):
        photos = [dog / f"{index}.png" for index in range(count)]
        with raises("photos-few", name, "--data.allow-few"):
            load(photos, allow_few=False)
        (note,) = load(photos).notes
        assert name in note
    for index in (2, 3):
        (dog / f"{index}.png").unlink()
    with raises("photos-few", f"{dog}{os.sep}", "2 photos"):
        load(dog, allow_few=False)


def test_far_too_many_photos(dog: Path) -> None:
    with raises("photos-many", 501, 500):
        load([dog / "0.png"] * 501)


def test_notes(dog: Path) -> None:
    save(noise(40, 40), dog / "4.png")
    save(noise(300, 100), dog / "5.png")
    (dog / "6.png").write_bytes((dog / "0.png").read_bytes())
    small, long, same = load(dog).notes
    assert all(fact in small for fact in ("4.png", "40x40", "64"))
    assert all(fact in long for fact in ("5.png", "300x100", "data.crops"))
    assert all(fact in same for fact in ("6.png", "0.png"))


@pytest.mark.parametrize("words", ["", "  ", "\n", "\u200b"])
def test_empty_words(dog: Path, words: str) -> None:
    with raises("words-empty", "class noun", "--class-noun"):
        load_subject(dog, class_noun=words, resolution=64)
    with raises("words-empty", "identifier", "--identifier"):
        load_subject(dog, class_noun="dog", identifier=words, resolution=64)


@pytest.mark.parametrize("words", ["a\ndog", "a\tdog", "d\0g", "a\u2028dog", "\udc80dog"])
def test_control_characters(dog: Path, words: str) -> None:
    with raises("words-control", "class noun", repr(words)):
        load_subject(dog, class_noun=words, resolution=64)


def test_words_are_tidied(dog: Path) -> None:
    subject = load_subject(dog, class_noun=" stuffed   animal\n", identifier=" sks ", resolution=64)
    assert subject.prompt == "a photo of sks stuffed animal"


def test_resolution_must_be_positive(dog: Path) -> None:
    with raises("setting-range", "resolution", 0):
        load_subject(dog, class_noun="dog", resolution=0)


def test_check_identifier() -> None:
    assert check_identifier("sks", lambda words: [7]) is None
    note = check_identifier("xyzzy", lambda words: [7, 8, 9])
    assert note is not None
    assert "3 tokens" in note
    with raises("identifier-unknown", "🐕"):
        check_identifier("🐕", lambda words: [])


@pytest.mark.skipif(not DOG.is_dir(), reason="the DreamBooth data set is not at ../shared/datasets/dreambooth")
def test_dreambooth_dog() -> None:
    subject = load(DOG, allow_few=False)
    assert [photo.path.name for photo in subject.photos] == [f"0{index}.jpg" for index in range(5)]
    assert all("enlarged" not in note for note in subject.notes)
    for photo in subject.photos:
        with Image.open(photo.path) as image:
            plain = image.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)
        difference = photo.pixels.astype(float) - np.asarray(plain)
        assert np.abs(difference).mean() < 2.0  # only the JPEG decoder's own shrinking differs
