"""A pipeline that can do more becomes so in place, since others hold it and draw with it, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lookforward.errors import LookforwardError

T = TypeVar("T")


@dataclass(frozen=True)
class InPlace(Generic[T]):
    """plain: the class of a pipeline as diffusers loads it. able: ours of it. forget: takes back what was put into
    one. what: can be done with `able` alone, in words."""

    plain: type[Any]
    able: type[T]
    forget: Callable[[T], object]
    what: str

    def become(self, pipeline: Any) -> T:
        """Make an `able` of a plain pipeline, in place.

        Raises:
            LookforwardError: it is neither.
        """
        if type(pipeline) is self.plain:
            pipeline.__class__ = self.able
        if not isinstance(pipeline, self.able):
            raise LookforwardError(f"A {type(pipeline).__name__} cannot {self.what}.", code="adapter-family")
        return pipeline

    def release(self, pipeline: Any) -> None:
        """Undo `become`, and forget what was put in. A plain pipeline stays as it is."""
        if isinstance(pipeline, self.able):
            self.forget(pipeline)
            changed: Any = pipeline
            changed.__class__ = self.plain
