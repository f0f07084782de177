"""lookforward: personalised text-to-image generation by deterministic policy gradient with Look Forward."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookforward.api import Personalized, load_personalized, personalize
    from lookforward.config.recipe import load_settings
    from lookforward.config.settings import Settings
    from lookforward.core.types import StepResult
    from lookforward.errors import LookforwardError

    __version__: str

__all__ = [
    "LookforwardError",
    "Personalized",
    "Settings",
    "StepResult",
    "load_personalized",
    "load_settings",
    "personalize",
]
# Names are fetched when they are first used: torch and diffusers take seconds to import, help texts need neither.
_HOMES = {
    "LookforwardError": "errors",
    "Personalized": "api",
    "Settings": "config.settings",
    "StepResult": "core.types",
    "load_settings": "config.recipe",
    "load_personalized": "api",
    "personalize": "api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("lookforward")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "unknown"
    if name not in _HOMES:
        raise AttributeError(f"module 'lookforward' has no attribute {name!r}")
    return getattr(import_module(f"lookforward.{_HOMES[name]}"), name)
