"""SD3 without T5: the tokens in its place are computed as one, and images and gradients stay what they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from lookforward.adapters.photo_tokens import become
from lookforward.models.families.absent_t5 import ABSENT, FoldedAttention, fold_absent_t5
from lookforward.models.families.sd3 import SD3
from tiny import seeded
from tiny_sd3 import make_sd3

PROMPT = "a photo of a red vase"


def seen_by_blocks(pipeline: Any) -> list[int]:
    """A list that fills with the number of text tokens that reach the first block."""
    counts: list[int] = []
    pipeline.transformer.context_embedder.register_forward_pre_hook(lambda _, args: counts.append(args[0].shape[1]))
    return counts


def run(pipeline: Any, size: int = 8) -> tuple[Tensor, dict[str, Tensor]]:
    """Output of the transformer and the gradient of each of its weights."""
    tokens, _, pooled, _ = pipeline.encode_prompt([PROMPT] * 2, None, None, do_classifier_free_guidance=False)
    pipeline.transformer.requires_grad_(True).zero_grad()
    output = pipeline.transformer(
        hidden_states=torch.randn(2, 4, size, size, generator=seeded()),
        timestep=torch.tensor([30.0, 800.0]),
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
    output.square().mean().backward()
    gradients = {name: p.grad for name, p in pipeline.transformer.named_parameters() if p.grad is not None}
    return output.detach(), gradients


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
def test_output_and_gradients_are_those_of_256_tokens(checkpointing: bool) -> None:
    plain, folded = make_sd3(t5=False), make_sd3(t5=False)
    fold_absent_t5(folded)
    if checkpointing:
        folded.transformer.enable_gradient_checkpointing()
        folded.transformer.train()
    counts, full = seen_by_blocks(folded), seen_by_blocks(plain)
    (expected, slopes), (found, own) = run(plain), run(folded)
    length = plain.tokenizer_max_length
    assert set(full) == {length + ABSENT}
    assert set(counts) == {length + 1}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert own.keys() == slopes.keys()
    for name, gradient in slopes.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_pipeline_draws_the_same_images() -> None:
    drawn = []
    for fold in (False, True):
        pipeline = make_sd3(t5=False)
        if fold:
            SD3.set_sampler(pipeline)  # as a loaded pipeline is
            SD3.set_sampler(pipeline)  # and once more, which changes nothing
        images: Any = pipeline(PROMPT, num_inference_steps=3, guidance_scale=4.0, height=32, width=32,
                               generator=seeded(), output_type="np")  # fmt: skip
        drawn.append(torch.as_tensor(images.images))
    torch.testing.assert_close(drawn[1], drawn[0], rtol=0, atol=1e-4)


def _shown_photos(pipeline: Any) -> None:
    become(pipeline)


def _other_processors(pipeline: Any) -> None:
    from diffusers.models.attention_processor import JointAttnProcessor2_0

    pipeline.transformer.set_attn_processor(JointAttnProcessor2_0())


@pytest.mark.parametrize("change", [_shown_photos, _other_processors])
def test_what_may_hold_other_tokens_is_not_folded(change: Callable[[Any], None]) -> None:
    pipeline: Any = make_sd3(t5=False)
    fold_absent_t5(pipeline)
    change(pipeline)
    counts = seen_by_blocks(pipeline)
    run(pipeline)
    assert counts == [pipeline.tokenizer_max_length + ABSENT]


def test_large_images_and_pipelines_with_t5_stay_as_they_are() -> None:
    whole = make_sd3()
    fold_absent_t5(whole)
    assert not any(isinstance(block.attn.processor, FoldedAttention) for block in whole.transformer.transformer_blocks)
    large: Any = make_sd3(t5=False)
    large.transformer.pos_embed.pos_embed_max_size = 64
    positions = large.transformer.pos_embed.pos_embed
    large.transformer.pos_embed.pos_embed = torch.zeros(1, 64 * 64, positions.shape[-1])
    fold_absent_t5(large)
    counts = seen_by_blocks(large)
    run(large, size=66)  # 33 × 33 tokens
    assert counts == [large.tokenizer_max_length + ABSENT]


def test_an_export_is_a_plain_pipeline(tmp_path: Any) -> None:
    pipeline = make_sd3(t5=False)
    fold_absent_t5(pipeline)
    pipeline.save_pretrained(tmp_path)
    again: Any = StableDiffusion3Pipeline.from_pretrained(tmp_path, text_encoder_3=None, tokenizer_3=None)
    torch.testing.assert_close(run(again)[0], run(pipeline)[0], rtol=1e-5, atol=1e-5)
