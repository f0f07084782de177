"""Run one of diffusers' examples/dreambooth scripts unchanged, and print the time of its steps as JSON.

    python benchmarks/yardstick.py SCRIPT ARGUMENTS OF THE SCRIPT …

The script is not part of lookforward: fetch it from https://github.com/huggingface/diffusers. Where torchvision is not
installed, benchmarks/torchvision_transforms.py takes the place of the transforms that it uses.
"""

import json
import runpy
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec

import torch
import torchvision_transforms
from timing import StepClock


def main() -> None:
    import diffusers  # noqa: F401  before torchvision seems to be there
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel  # noqa: F401
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline  # noqa: F401
    from transformers import AutoTokenizer, CLIPTextModel, PretrainedConfig  # noqa: F401
    from transformers import CLIPTextModelWithProjection, T5EncoderModel, T5TokenizerFast  # noqa: F401

    if find_spec("torchvision") is None:
        torchvision_transforms.install()
    clock = StepClock()
    clock.start()
    sys.argv = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        runpy.run_path(sys.argv[0], run_name="__main__")
    print(json.dumps(clock.seconds() | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
