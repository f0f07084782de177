"""Pipelines change their class in place, and back."""

from types import ModuleType

import pytest
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from errors import raises
from lookforward.adapters import elite, layered_words, photo_tokens
from lookforward.adapters.in_place import InPlace
from lookforward.models.families.layered_words.pipeline import LayeredWordPipeline
from lookforward.models.families.photo_prompts.flow import PhotoTokensPipeline
from lookforward.models.families.photo_prompts.pipeline import PhotoPromptPipeline

CASES = [
    (layered_words, StableDiffusionPipeline, LayeredWordPipeline),
    (elite, StableDiffusionPipeline, PhotoPromptPipeline),
    (photo_tokens, StableDiffusion3Pipeline, PhotoTokensPipeline),
]


@pytest.mark.parametrize(("module", "plain", "able"), CASES)
def test_a_pipeline_is_changed_and_changed_back(module: ModuleType, plain: type, able: type) -> None:
    pipeline, other = object.__new__(plain), object.__new__(StableDiffusionXLPipeline)
    module.release(pipeline)
    assert type(pipeline) is plain
    for _ in range(2):
        assert module.become(pipeline) is pipeline
        assert type(pipeline) is able
    module.release(pipeline)
    assert type(pipeline) is plain
    with raises("adapter-family", "StableDiffusionXLPipeline"):
        module.become(other)
    module.release(other)
    assert type(other) is StableDiffusionXLPipeline


def test_what_was_put_in_is_forgotten_once() -> None:
    class Plain: ...

    class Able(Plain): ...

    forgotten: list[Able] = []
    change = InPlace(Plain, Able, forgotten.append, "be tested")
    pipeline = Plain()
    change.release(pipeline)
    assert forgotten == []
    change.become(pipeline)
    change.release(pipeline)
    change.release(pipeline)
    assert forgotten == [pipeline]
