"""Run one of diffusers' examples/dreambooth scripts unchanged, and print the time of its steps as JSON.

    python benchmarks/yardstick.py [--flops] SCRIPT ARGUMENTS OF THE SCRIPT …

With --flops PyTorch's counter runs along, so that times are too long and the operations of each step are there too.

The script is not part of lookforward: fetch it from https://github.com/huggingface/diffusers. Where torchvision is not
installed, benchmarks/torchvision_transforms.py takes the place of the transforms that it uses.
"""

import json
import runpy
import sys
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec

import torch
import torchvision_transforms
from timing import StepClock
from torch.utils.flop_counter import FlopCounterMode

OF_DIFFUSERS = (
    "AutoencoderKL", "DiffusionPipeline", "SD3Transformer2DModel", "StableDiffusion3Pipeline", "UNet2DConditionModel",
)  # fmt: skip
OF_TRANSFORMERS = (
    "AutoTokenizer", "CLIPTextModel", "CLIPTextModelWithProjection", "PretrainedConfig", "T5EncoderModel",
    "T5TokenizerFast",
)  # fmt: skip


def main() -> None:
    import diffusers
    import transformers

    for module, names in ((diffusers, OF_DIFFUSERS), (transformers, OF_TRANSFORMERS)):
        for name in names:  # imported before torchvision seems to be there
            getattr(module, name)
    if find_spec("torchvision") is None:
        torchvision_transforms.install()
    counted = "--flops" in sys.argv[:2]
    counter = FlopCounterMode(display=False)
    clock = StepClock(counter.get_total_flops if counted else None)
    clock.start()
    sys.argv = sys.argv[1 + counted :]
    with redirect_stdout(sys.stderr), counter if counted else nullcontext():
        runpy.run_path(sys.argv[0], run_name="__main__")
    print(json.dumps(clock.seconds() | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
