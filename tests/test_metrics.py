"""Scores: their formulas, and the oracle's search against drawings pasted by another library."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from lookforward.core.specs import Resources, ScoreSpec
from lookforward.models.encoders import Encoders, ImageEncoder, Preprocessing, to_unit
from lookforward.scores import CLIP_IMAGE, CLIP_TEXT, DINO
from lookforward.scores.evaluate import score_images
from lookforward_toybox.oracle.alignment import OracleScore
from lookforward_toybox.oracle.masked_error import errors_everywhere, errors_nearby

PLAIN = Preprocessing(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def mean_colour() -> ImageEncoder:
    """An encoder whose embedding can be checked by hand: the direction of the mean colour."""
    return ImageEncoder(nn.Identity(), lambda pixels: pixels.mean(dim=(2, 3)), PLAIN)


def flat(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 8, 8)


@pytest.mark.parametrize("spec", [DINO, CLIP_IMAGE], ids=lambda spec: spec.name)
def test_image_scores_average_the_cosine_over_the_references(spec: ScoreSpec) -> None:
    encoders = Encoders({}, dino=mean_colour(), clip=SimpleNamespace(image=mean_colour()))
    score = spec.build(Resources(encoders, flat((1, 0, 0), (0, 1, 0))))
    assert score.name == spec.label
    values = score(flat((1, 0, 0), (0.5, 0.5, 0), (0, 0, 1)), ["", "", ""])
    torch.testing.assert_close(values, torch.tensor([0.5, 0.5**0.5, 0.0]))


def test_image_scores_do_not_depend_on_the_batch() -> None:
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    score = DINO.build(Resources(Encoders({}, dino=mean_colour()), images[:3]))
    torch.testing.assert_close(score(images, [""] * 40)[:5], score(images[:5], [""] * 5))


def test_clip_text_pairs_each_image_with_its_prompt() -> None:
    class Towers:
        image = mean_colour()

        def text(self, prompts: list[str]) -> Tensor:
            return torch.eye(3)[[["red", "green", "blue"].index(prompt) for prompt in prompts]]

    score = CLIP_TEXT.build(Resources(Encoders({}, clip=Towers()), flat((0, 1, 0))))
    values = score(flat((0, 1, 0), (1, 0, 0)), ["green", "blue"])
    torch.testing.assert_close(values, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="2 images need as many prompts"):
        score(flat((0, 1, 0), (1, 0, 0)), ["green"])


def draw_subject(body: str = "#c8452f", spots: str = "#f4e04d") -> Image.Image:
    """Lopsided on purpose, so that flips and turns show."""
    picture = Image.new("RGBA", (240, 200))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((20, 60, 190, 190), fill=body)
    pen.ellipse((130, 12, 220, 100), fill=body)
    pen.polygon([(140, 30), (150, 2), (175, 20)], fill="#3a2a6b")
    pen.ellipse((185, 40, 200, 55), fill="black")
    for x, y in ((50, 90), (90, 130), (140, 110), (70, 150)):
        pen.ellipse((x, y, x + 28, y + 28), fill=spots)
    pen.rectangle((40, 160, 60, 198), fill="#2f7dc8")
    return picture


def as_drawing(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def paste(
    picture: Image.Image,
    scale: float,
    degrees: float,
    flip: bool,
    centre: tuple[float, float],
    side: int = 64,
    seed: int = 0,
) -> Tensor:
    """The subject on noise, by Pillow at eight times the resolution: (1, 3, side, side)."""
    zoom = 8
    subject = picture.crop(picture.getbbox())
    longer = scale * side * zoom
    ratio = longer / max(subject.size)
    subject = subject.resize((round(subject.width * ratio), round(subject.height * ratio)), Image.Resampling.BICUBIC)
    if flip:
        subject = subject.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    subject = subject.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    canvas = Image.fromarray(noise).resize((side * zoom, side * zoom), Image.Resampling.NEAREST)
    corner = (round(centre[1] * zoom - subject.width / 2), round(centre[0] * zoom - subject.height / 2))
    canvas.paste(subject, corner, subject)
    canvas = canvas.resize((side, side), Image.Resampling.BOX)
    return as_drawing(canvas)[None]


@pytest.mark.parametrize(
    ("scale", "degrees", "flip", "centre", "side"),
    [
        (0.65, 0.0, False, (32.0, 32.0), 64),
        (0.5, 12.0, True, (40.25, 22.5), 64),
        (0.74, -18.0, False, (28.0, 35.7), 64),
        (0.6, 8.0, True, (30.0, 34.0), 64),  # between the grid's scales and rotations
        (0.84, -5.0, False, (60.0, 70.0), 128),
    ],
)
def test_oracle_recovers_a_pasted_subject(
    scale: float, degrees: float, flip: bool, centre: tuple[float, float], side: int
) -> None:
    score = OracleScore(as_drawing(draw_subject()))
    image = paste(draw_subject(), scale, degrees, flip, centre, side)
    found = score.align(image)
    assert float(score(image, [""])) > 0.95
    assert bool(found.flip) == flip
    assert float(found.scale) == pytest.approx(scale, rel=0.04)
    assert float(found.rotation) == pytest.approx(degrees, abs=2.5)
    assert float(found.y) == pytest.approx(centre[0], abs=0.75)
    assert float(found.x) == pytest.approx(centre[1], abs=0.75)


def test_oracle_allows_for_light_and_for_the_border() -> None:
    score = OracleScore(as_drawing(draw_subject()))
    image = paste(draw_subject(), 0.65, 0.0, False, (32, 32))
    assert float(score(image * 0.8, [""])) > 0.95
    cut = paste(draw_subject(), 0.65, 0.0, False, (32, 17))  # the hind end is beyond the border
    found = score.align(cut)
    assert float(found.x) == pytest.approx(17, abs=0.75)
    assert float(score(cut, [""])) > 0.95


def test_oracle_prefers_the_right_colours_and_any_subject_to_none() -> None:
    score = OracleScore(as_drawing(draw_subject()))
    same = paste(draw_subject(), 0.65, 6.0, False, (32, 32))
    spots = paste(draw_subject(spots="#2a9d4a"), 0.65, 6.0, False, (32, 32))
    other = paste(draw_subject("#3050c0", "#ffffff"), 0.65, 6.0, False, (32, 32))
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    values = score(torch.cat([same, spots, other, noise]), [""] * 4)
    assert values[0] > values[1] + 0.05 > values[2] + 0.1
    assert values[0] > values[3] + 0.2


def test_oracle_falls_as_noise_rises() -> None:
    score = OracleScore(as_drawing(draw_subject()))
    image = paste(draw_subject(), 0.74, 0.0, False, (32, 32))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    noisy = torch.cat([image + level * noise for level in (0.0, 0.05, 0.1, 0.2, 0.4)]).clamp(0, 1)
    values = score(noisy, [""] * 5)
    assert (values.diff() < -0.01).all()


@pytest.mark.parametrize("nearby", [False, True])
def test_the_masked_error_is_its_definition(nearby: bool) -> None:
    """Both ways of computing it against the sum over pixels, inside and with 2 columns beyond the border."""
    generator = torch.Generator().manual_seed(3)
    image, colours = torch.rand(1, 3, 20, 24, generator=generator), torch.rand(3, 9, 9, generator=generator)
    mask = torch.rand(9, 9, generator=generator)
    mask[:, 7:] *= 0.1  # so that more than 80 % is visible without it
    template = torch.cat([colours, mask[None]])[None, None]
    for y, x in ((10, 12), (10, 21)):
        if nearby:
            found = errors_nearby(image, template, torch.tensor([y - 1]), torch.tensor([x - 2]), 2)[0, 0, 3, 4]
        else:
            found = errors_everywhere(image, template)[0, 0, y, x]
        window = image[0, :, y - 4 : y + 5, x - 4 : x + 5]
        m, t = mask[:, : window.shape[-1]], colours[:, :, : window.shape[-1]]
        gain = ((m * t * window).sum() / (m * t * t).sum()).clamp(0.7, 1.25)
        torch.testing.assert_close(found, (m * (gain * t - window) ** 2).sum() / (3 * m.sum()))
    assert errors_everywhere(image, template)[0, 0, 10, 0].isinf()


def test_oracle_rejects_what_is_no_drawing() -> None:
    with pytest.raises(ValueError, match="transparent everywhere"):
        OracleScore(torch.zeros(4, 32, 32))
    with pytest.raises(ValueError, match="RGBA"):
        OracleScore(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="scales"):
        OracleScore(torch.ones(4, 32, 32), scales=(2.0,))


def test_scoring_runs_no_encoder_twice() -> None:
    seen, read = [], []

    def features(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return pixels.mean(dim=(2, 3))

    def text(prompts: tuple[str, ...]) -> Tensor:
        read.append(prompts)
        return torch.eye(3)[: len(prompts)]

    clip = SimpleNamespace(image=ImageEncoder(nn.Identity(), features, PLAIN), text=text)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    given = Resources(Encoders({}, clip=clip), torch.rand(2, 3, 8, 8))
    scores = [spec.build(given) for spec in (CLIP_IMAGE, CLIP_TEXT)]
    seen.clear()
    prompts = ["a red", "a green"] * 20
    found = score_images(scores, images, prompts)
    assert (seen, read) == ([32, 8], [("a red", "a green")])
    alone = score_images(scores[1:], images[:1], ["a green"])  # and what was kept belongs to one call
    assert (seen, read) == ([32, 8, 1], [("a red", "a green"), ("a green",)])
    assert alone["CLIP-T"].shape == (1,)
    unit = torch.nn.functional.normalize(to_unit(images).mean(dim=(2, 3)), dim=-1).numpy()
    assert np.allclose(found["CLIP-T"], np.where(np.arange(40) % 2, unit[:, 1], unit[:, 0]))
