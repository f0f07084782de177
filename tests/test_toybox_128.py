"""The 128-pixel edition: the world in more detail, and the stages that train a flow transformer on it."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from errors import raises
from lookforward_toybox import Weights, draw, measure_128
from lookforward_toybox.check import draw_emblems, draw_real, held_out_pictures
from lookforward_toybox.draw import draw_world
from lookforward_toybox.judge import Judge
from lookforward_toybox.labels import WITH_EMBLEM
from lookforward_toybox.subjects import reference_photos
from lookforward_toybox.training.autoencoder import export_autoencoder, ssim, train_autoencoder
from lookforward_toybox.training.clip import ClipSizes, export_clip, train_clip
from lookforward_toybox.training.dino import DinoSizes, export_dino, train_dino
from lookforward_toybox.training.flow_model import ABSENT, FlowModel, TransformerSizes, make_transformer, text_widths
from lookforward_toybox.training.pack import pack, unpack
from lookforward_toybox.training.resnet import ResnetSizes, export_resnet, train_judge
from lookforward_toybox.training.stages_128 import train_stage_128
from lookforward_toybox.training.state import load_state
from lookforward_toybox.training.transformer import export_transformer, train_transformer
from lookforward_toybox.training.vae import VaeSizes, make_vae
from lookforward_toybox.world.captions import caption, emblem_words
from lookforward_toybox.world.detailed.light import light_of
from lookforward_toybox.world.detailed.shadow import cast_shadow
from lookforward_toybox.world.edition import EDITION_128
from lookforward_toybox.world.picture import draw_any_view, draw_picture, draw_view, drawing
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import CLASSES, EMBLEMS, draw_pretraining_subject, held_out

# Of the 64-pixel edition as its shipped models know it: a picture and caption of each class, the dog in each scene,
# and the photos of two held-out subjects.
DIGESTS = json.loads((Path(__file__).parent / "data" / "toybox_64_digests.json").read_text(encoding="utf-8"))


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def test_the_64_pixel_edition_is_what_it_was_to_the_last_bit() -> None:
    rng, found = np.random.default_rng(19), {}
    for noun in CLASSES:
        subject = draw_pretraining_subject(rng, noun)
        view = draw_any_view(rng, subject)
        picture = draw_picture(subject, view, rng)
        found[noun] = _digest(picture.tobytes(), caption(rng, subject, view).encode())
    for scene in SCENES:
        own = np.random.default_rng(5)
        found[scene] = _digest(draw_picture(held_out()["dog-0"], draw_view(own, scene), own).tobytes())
    found |= {name: _digest(reference_photos(name).tobytes()) for name in ("vase-0", "stuffed-animal-2")}
    assert found == DIGESTS


def test_detailed_pictures_are_repeatable_and_show_the_same_scene() -> None:
    subject = held_out()["teapot-0"]

    def drawn(draw: object, size: int) -> np.ndarray:
        rng = np.random.default_rng(4)
        view = draw_view(rng, "beach")
        return (EDITION_128.draw if draw == "detailed" else draw_picture)(subject, view, rng, size)

    first, plain = drawn("detailed", 128), drawn("plain", 128)
    assert first.shape == (128, 128, 3)
    assert np.array_equal(first, drawn("detailed", 128))
    apart = np.abs(first.astype(float) - plain.astype(float)).mean()
    assert 2 < apart < 40  # the same composition, in another light


def test_a_thousand_detailed_pictures_a_minute_and_core() -> None:
    rng = np.random.default_rng(0)
    subject, seconds = held_out()["dog-0"], []
    for _ in range(3):
        started = time.process_time()
        for _ in range(10):
            EDITION_128.draw(subject, draw_any_view(rng, subject), rng, 128)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 10 * 60 / 1000  # it is some 1900


def test_a_shadow_falls_away_from_the_light_and_not_on_the_sky() -> None:
    view = replace(draw_view(np.random.default_rng(0), "beach"), x=0.5, base=0.85, side=0.6, light=(0.7, 0.2, 0.7))
    canvas, alpha = np.ones((128, 128, 3), np.float32), np.ones((70, 70), np.float32)
    cast_shadow(canvas, alpha, (slice(38, 108), slice(29, 99)), view, light_of("beach"))
    dark = 1 - canvas[..., 0]
    assert dark[:, :64].sum() > 1.3 * dark[:, 64:].sum()  # the light comes from the right
    assert dark[: int(128 * (view.base - 0.3))].max() == 0


@pytest.mark.parametrize("name", ["cat-0", "can-0", "clock-0", "glasses-0"])
def test_a_detailed_drawing_covers_what_the_first_edition_covers(name: str) -> None:
    subject = held_out()[name]
    detailed, plain = EDITION_128.drawing(subject, 128)[..., 3], drawing(subject, 128)[..., 3]
    both = np.minimum(detailed, plain).sum() / np.maximum(detailed, plain).sum()
    assert both > 0.9  # fur frays the contour a little, and emblems are larger


def test_a_fifth_of_the_pictures_name_their_emblem(tmp_path: Path) -> None:
    draw_world(tmp_path, 200, seed=1, workers=1, edition=EDITION_128)
    captions = json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))
    facts = json.loads((tmp_path / "subjects.json").read_text(encoding="utf-8"))
    named = [all(" on it" in text for text in texts) for texts in captions]
    assert 0.1 < np.mean(named) < 0.3
    for texts, fact, there in zip(captions, facts, named, strict=True):
        words = emblem_words(fact["emblem"], fact["emblem_colour"])
        assert all((words in text) == there for text in texts)
    assert all(emblem_words(e, "orange").startswith(("with an orange", "with orange")) for e in EMBLEMS)


def test_an_interrupted_drawing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "CHUNK", 2)

    def stop(drawn: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_world(tmp_path / "a", 8, seed=2, workers=1, show=stop)
    (parts,) = (tmp_path / "a").glob("parts-*")
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert kept
    again: list[int] = []

    def note(drawn: int) -> None:
        again.extend(path.stat().st_mtime_ns == kept[path] for path in kept)

    draw_world(tmp_path / "a", 8, seed=2, workers=1, show=note)
    assert all(again)
    assert not parts.exists()
    draw_world(tmp_path / "b", 8, seed=2, workers=1)
    for name in ("images.npy", "captions.json", "subjects.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_one_counted_token_stands_for_all_that_the_pipeline_appends() -> None:
    torch.manual_seed(0)
    words = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2)
    text = CLIPTextModelWithProjection(words)
    sizes = TransformerSizes(layers=2, heads=2, head_width=16, sample=4, latent_channels=4, align=1)
    transformer = make_transformer(sizes, *text_widths(text))
    for parameter in transformer.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    model = FlowModel(sizes, transformer, text)
    x_t, sigma, ids = torch.randn(2, 4, 4, 4), torch.tensor([0.3, 0.9]), torch.randint(0, 50, (2, 8))
    with torch.no_grad():
        ours, _ = model(x_t, sigma, ids)
        tokens, pooled = model.conditioning(ids)
        transformer.set_attn_processor(JointAttnProcessor2_0())
        many = torch.cat([tokens[:, :-1], torch.zeros(2, ABSENT, 64)], dim=1)
        theirs = transformer(
            hidden_states=x_t, timestep=sigma * 1000, encoder_hidden_states=many, pooled_projections=pooled
        ).sample
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_ssim_is_one_for_equal_images_and_less_for_noisy_ones() -> None:
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert float(ssim(image, image)) == pytest.approx(1, abs=1e-5)
    assert float(ssim(image + 0.5 * torch.randn(image.shape), image)) < 0.95


def test_stages_train_resume_and_export_a_pipeline_that_diffusers_draws_with(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_world(data, 12, seed=1, workers=1, edition=EDITION_128)
    small = VaeSizes(channels=(8, 8, 8, 16), latent_channels=4, image=128)
    for steps in (3, 4):
        list(train_autoencoder(data, tmp_path / "vae", steps=steps, batch=1, sizes=small, log_every=1))
    export_autoencoder(tmp_path / "vae", tmp_path / "export" / "vae")
    clip = ClipSizes(hidden=16, text_layers=2, image_layers=1, heads=2, projection=16, image=128, patch=16)
    list(train_clip(data, tmp_path / "clip", steps=1, batch=4, sizes=clip, extra_words=["star"], log_every=1))
    export_clip(tmp_path / "clip", tmp_path / "export" / "clip")
    dino = DinoSizes(hidden=16, layers=1, heads=2, image=128, patch=16, local_image=64, head_hidden=16, outputs=32)
    list(train_dino(data, tmp_path / "dino", steps=1, batch=2, sizes=dino, log_every=1))
    export_dino(tmp_path / "dino", tmp_path / "export" / "dino")
    sizes = TransformerSizes(layers=2, heads=2, head_width=8, latent_channels=4, align=1)
    parts: dict[str, Any] = {name: tmp_path / "export" / name for name in ("vae", "clip", "dino")}
    rows = []
    for steps in (2, 4):  # the second resumes the first
        rows += list(
            train_transformer(data, tmp_path / "transformer", steps=steps, batch=4, sizes=sizes, log_every=1, **parts)
        )
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(np.isfinite(row["mse"]) and 0 <= row["apart"] <= 2 for row in rows)
    export_transformer(tmp_path / "transformer", tmp_path / "export" / "pipeline")
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        tmp_path / "export" / "pipeline", text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32
    )
    assert isinstance(pipeline.transformer, SD3Transformer2DModel)
    assert pipeline.vae.config.shift_factor is not None
    pipeline.set_progress_bar_config(disable=True)
    drawn: Any = pipeline("a photo of a red vase", num_inference_steps=2, output_type="np")
    image = drawn.images[0]
    assert image.shape == (128, 128, 3)
    assert np.isfinite(image).all()
    names = " ".join(path.read_text(encoding="utf-8") for path in (tmp_path / "export").rglob("config.json"))
    assert str(tmp_path) not in names


def test_the_decoder_alone_leaves_the_latents(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_world(data, 8, seed=1, workers=1, edition=EDITION_128)
    small = VaeSizes(channels=(8, 8, 8, 16), latent_channels=4, image=128)
    list(train_autoencoder(data, tmp_path / "vae", steps=1, batch=1, sizes=small))
    export_autoencoder(tmp_path / "vae", tmp_path / "out")
    before = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    more = {"init": tmp_path / "out", "decoder_only": True, "sizes": small}
    list(train_autoencoder(data, tmp_path / "decoder", steps=2, batch=1, **more))
    export_autoencoder(tmp_path / "decoder", tmp_path / "out", keep_scale=True)
    after = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert after["scaling_factor"] == before["scaling_factor"]
    assert after["shift_factor"] == before["shift_factor"]


def test_a_packed_state_goes_on_where_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_world(data, 8, seed=1, workers=1, edition=EDITION_128)
    small = VaeSizes(channels=(8, 8, 8, 16), latent_channels=4, image=128)
    list(train_autoencoder(data, tmp_path / "vae", steps=2, batch=1, sizes=small))
    pack(tmp_path / "vae", tmp_path / "packed" / "vae.safetensors")
    whole, small_file = (tmp_path / name for name in ("vae/state.safetensors", "packed/vae.safetensors"))
    assert small_file.stat().st_size < 0.2 * whole.stat().st_size  # a sixteenth where weights outweigh names
    assert str(tmp_path).encode() not in small_file.read_bytes()
    unpack(small_file, tmp_path / "again")
    then, now = (load_state(tmp_path / name)[0] for name in ("vae", "again"))
    for name in (name for name in now if name.startswith("ema.")):
        assert torch.allclose(now[name], then[name], atol=float(then[name].abs().max()) / 200)
    rows = list(train_autoencoder(data, tmp_path / "again", steps=4, batch=1, sizes=small, log_every=1))
    assert [row["step"] for row in rows] == [3, 4]
    with raises("toybox-other-settings", "again"):
        unpack(small_file, tmp_path / "again")


def test_the_judge_names_emblems(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_world(data, 8, seed=1, workers=1, edition=EDITION_128)
    sizes = ResnetSizes(stem=8, hidden=(8, 8), depths=(1, 1), image=128)
    list(train_judge(data, tmp_path / "judge", steps=1, batch=4, sizes=sizes, labels=WITH_EMBLEM))
    export_resnet(tmp_path / "judge", tmp_path / "out")
    (answer,) = Judge(tmp_path / "out")(torch.rand(1, 3, 128, 128))
    assert answer.keys() == WITH_EMBLEM.values.keys()
    assert answer["emblem"] in EMBLEMS


def test_requests_for_emblems_are_drawn_with_them() -> None:
    requests = draw_emblems(20, seed=3)
    assert {request.emblem for request in requests} == set(EMBLEMS)
    for request in requests:
        assert request.emblem_colour != request.colour
        assert emblem_words(str(request.emblem), str(request.emblem_colour)) in request.prompt
    assert draw_real(requests[:2], size=128).shape == (2, 128, 128, 3)


def test_what_is_trained_already_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_vae(VaeSizes(channels=(8, 8, 8, 8), latent_channels=4, image=128)).save_pretrained(tmp_path / "vae")
    photo = tmp_path / "photos" / "someone" / "1.png"
    photo.parent.mkdir(parents=True)
    Image.fromarray(reference_photos("can-0", 1, 128)[0]).resize((200, 150)).save(photo)
    monkeypatch.setattr(measure_128, "held_out_pictures", lambda views, size: held_out_pictures(1, size))
    figures = list(measure_128.measure_128(Weights(tmp_path), real_photos=tmp_path / "photos"))
    assert [figure.goal for figure in figures] == [29, 29]
    assert all(0 < figure.reached < 29 for figure in figures)


def test_a_stage_says_what_it_needs(tmp_path: Path) -> None:
    with raises("toybox-stage-missing", "vae"):
        next(train_stage_128("transformer", tmp_path))
