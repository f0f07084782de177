"""Any Python function of images as a reward; it need not be differentiable."""

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lookforward.core.types import Transition
from lookforward.errors import LookforwardError, is_out_of_memory
from lookforward.rewards.checked import RESUME, check_values
from lookforward.rewards.image import decoded

Function = Callable[[Tensor, Sequence[str]], Any]


class CallableReward:
    """What `function(images, prompts)` returns, in (-∞, ∞).

    Reads `image` and `prompts`; without a gradient. The function gets a copy of the images, (b, 3, H, W) float32
    in [0, 1] on the CPU, and the b prompts without the identifier. It returns b numbers or truth values: a tensor,
    an array or a list, higher is better. "Even non-differential": section 3.4 of the paper.
    """

    needs_image = True

    def __init__(self, function: Function, name: str) -> None:
        self.function = function
        self.name = name

    def __call__(self, transition: Transition) -> Tensor:
        """(b,) float32, on the image's device.

        Raises:
            LookforwardError: the function raised, or did not return one finite number for each image.
        """
        image = decoded(transition, self.name)
        return self.measure(image.detach(), transition.prompts)

    def measure(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """What the function returns for images (b, 3, H, W) in [0, 1] and b prompts: (b,), on the images' device.

        Raises:
            LookforwardError: as for a transition.
        """
        own = images.to("cpu", torch.float32, copy=True)  # it may write into them
        try:
            with torch.no_grad():
                returned = self.function(own, prompts)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            message = f"Reward {self.name!r} failed with {_describe(error)}. Correct it. {RESUME}"
            raise LookforwardError(message, code="reward-failed") from error
        return check_values(_as_tensor(returned, self.name), len(images), self.name).to(images.device)


def load_callable(spec: str) -> Function:
    """The function that "mymodule:function" names; modules of the current folder come before installed ones.

    Raises LookforwardError where there is no such module or function, the module cannot be imported, or what is
    named cannot be called with (images, prompts).
    """
    module_name, separator, name = spec.partition(":")
    if not (module_name and separator and name):
        message = f"Reward {spec!r} is not of the form module:function, such as colourful:colourful."
        raise LookforwardError(message, code="function-form")
    module = _import(module_name, spec)
    try:
        function = attrgetter(name)(module)
    except AttributeError as error:
        has = sorted(n for n, v in vars(module).items() if callable(v) and _is_own(v, module) and n[0] != "_")
        near = difflib.get_close_matches(name, has, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(has) or 'no functions'}."
        message = f"Reward {spec!r}: {_file(module)} has no function {name!r}. {hint}"
        raise LookforwardError(message, code="function-missing") from error
    if not callable(function):
        kind = type(function).__name__
        message = f"Reward {spec!r}: {name} in {_file(module)} is a {kind}, not a function."
        raise LookforwardError(message, code="function-missing")
    _require_two_arguments(function, spec)
    return function


def _import(name: str, spec: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # it stays: the module may import its neighbours later
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name.endswith(".py"):
            raise LookforwardError(
                f"Reward {spec!r}: give the module without .py, {spec.replace('.py:', ':')}.", code="module-missing"
            ) from error
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            file = name.replace(".", "/") + ".py"
            raise LookforwardError(
                f"Reward {spec!r}: there is no module {name!r}. It was looked for in {here} and among the installed "
                f"packages: run from the folder that holds {file}, or correct the name.",
                code="module-missing",
            ) from error
        raise LookforwardError(
            f"Reward {spec!r}: {name} imports {error.name}, which is not installed in this environment.",
            code="module-broken",
        ) from error
    except Exception as error:
        message = f"Reward {spec!r}: {name} cannot be imported: {_describe(error)}. Correct it."
        raise LookforwardError(message, code="module-broken") from error


def _require_two_arguments(function: Callable[..., Any], spec: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        name = spec.partition(":")[2]
        raise LookforwardError(
            f"Reward {spec!r} is called as {name}(images, prompts), but takes {signature}. Let it take both.",
            code="function-arguments",
        ) from error


def _as_tensor(returned: Any, name: str) -> Tensor:
    try:
        values = torch.as_tensor(returned)
        if values.is_complex():
            raise TypeError("complex numbers have no order")
    except Exception as error:
        raise LookforwardError(
            f"Reward {name!r} returned a {type(returned).__name__} that cannot be read as numbers ({error}); "
            f"return one number for each image: a tensor, an array or a list. {RESUME}",
            code="reward-values",
        ) from error
    return values.detach().to("cpu", torch.float32)


def _describe(error: Exception) -> str:
    """The exception, and the first line of the user's own that raised it."""
    message = str(error).strip()
    text = type(error).__name__ + (f": {message.splitlines()[0].rstrip('.')}" if message else "")
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename not in (__file__, importlib.__file__) and not frame.filename.startswith("<frozen"):
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
    return text


def _is_own(value: Any, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__
