"""One run on several processes: each works on its share of every batch, and all take the same step.

Every process builds the same run from the same seeds. It draws each batch, and whatever else is random, whole, and then
keeps its own rows. Gradients are averaged before they are clipped, and running averages see the samples of all
processes. So random numbers, weights and checkpoints are those of one process with the whole batch, up to rounding.

What is sent between processes goes through accelerate, which is imported only if there are several.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lookforward.core.sharding import is_sharded
from lookforward.core.types import Batch, rows
from lookforward.errors import LookforwardError, first_line, is_out_of_memory

T = TypeVar("T")
_BUCKET = 2**24  # gradients that are sent together, in numbers: 64 MiB in single precision


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them. By default it is the only one, and nothing is sent.

    index: of this process, in [0, count). count: of the processes. shard: whether each holds a part of the trained
    weights, so that all must act, and read the weights, as often as one another.

    All but `main`, `share` and `sample` wait for the other processes, so that each must call them in the same order.
    They raise LookforwardError (code "process-lost") if another process ended.
    """

    index: int = 0
    count: int = 1
    shard: bool = False

    @property
    def main(self) -> bool:
        """Whether this is the process that writes, draws samples and prints."""
        return self.index == 0

    @property
    def present(self) -> bool:
        """Whether this process takes part in what the main one draws, measures and saves."""
        return self.main or self.shard

    def together(self, decision: T) -> T:
        """What the main process decided, for all that are `present`."""
        return self.of_main(decision) if self.shard else decision

    def most(self, acts: int) -> int:
        """How often the policy acts where each process would act so often: as often as the others, if they share it."""
        return max(self._gather_objects(acts)) if self.shard else acts

    def share(self, whole: Batch) -> Batch:
        """The part of this process of a batch: b of b · count samples."""
        b = len(whole.x_0) // self.count
        return whole if self.count == 1 else rows(whole, slice(self.index * b, (self.index + 1) * b))

    def sample(self, draw: Callable[..., Tensor], *shape: int, generator: torch.Generator, dim: int = 0) -> Tensor:
        """Random numbers of a shape, drawn for the samples of all processes: the part of this one.

        draw: `torch.randn` or `torch.rand`. dim: the dimension of the samples.
        """
        whole = [size * self.count if i == dim else size for i, size in enumerate(shape)]
        return draw(*whole, generator=generator).narrow(dim, self.index * shape[dim], shape[dim])

    def gather(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Tensors (b, …) to those of all processes, (b · count, …), in the order of the whole batch."""
        if self.count == 1:
            return values
        from accelerate.utils import gather

        with _others():
            found: Any = gather(tuple(value.detach().contiguous() for value in values))
        return found

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, where one that a process does not have is zero.

        A parameter that has none in any process stays without, as it would with the whole batch. Those of sharded
        parameters are means already.
        """
        parameters = [p for p in parameters if not is_sharded(p)]
        if self.count == 1 or not parameters:
            return
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        used = [p for p, some in zip(parameters, self._reduce(has, "max").tolist(), strict=True) if some]
        for bucket in _buckets(used):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            mean = self._reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for p, part in zip(bucket, mean.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p).to(p.dtype)

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics, of the same names in each process, to their means over all."""
        if self.count == 1:
            return dict(metrics)
        from accelerate import PartialState

        values = torch.tensor(list(metrics.values()), dtype=torch.float64, device=PartialState().device)
        return dict(zip(metrics, self._reduce(values, "mean").tolist(), strict=True))

    def require_same(self, value: object, what: str) -> None:
        """Raise LookforwardError (code "processes-differ") unless `value` is the same in all processes."""
        if self.count == 1:
            return
        found = self._gather_objects(value)
        if any(other != found[0] for other in found):
            raise LookforwardError(
                f"The processes of this run do not have the same {what}: {', '.join(map(str, found))}. Give all of "
                "them the same command, model and run folder.",
                code="processes-differ",
            )

    def of_main(self, decision: T) -> T:
        """What the main process decided, for all."""
        if self.count == 1:
            return decision
        from accelerate.utils import broadcast_object_list

        decided = [decision]
        with _others():
            broadcast_object_list(decided)
        return decided[0]

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Where sharded weights travel, as torch itself sends them: raises if another process ended."""
        try:
            yield
        except RuntimeError as error:
            if not self.shard or not _is_lost(error):
                raise
            raise _lost(error) from error

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.count > 1:
            from accelerate import PartialState

            with _others():
                PartialState().wait_for_everyone()

    @contextmanager
    def first_on_machine(self) -> Iterator[None]:
        """One process of each machine goes first, the others after it: to fill a cache, then to read it."""
        first = True
        if self.count > 1:
            from accelerate import PartialState

            first = PartialState().is_local_main_process
        if not first:
            self.wait()
        yield
        if first:
            self.wait()

    def _gather_objects(self, value: T) -> list[T]:
        from accelerate.utils import gather_object

        with _others():
            return gather_object([value])

    def _reduce(self, values: Tensor, how: str) -> Tensor:
        from accelerate.utils import reduce

        with _others():
            return reduce(values, how)  # pyright: ignore[reportReturnType]


ALONE = Processes()  # a run on one process


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's, whose own names say nothing to the user
        if is_out_of_memory(error):
            raise
        raise _lost(error) from error


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _lost(error: RuntimeError) -> LookforwardError:
    return LookforwardError(
        f"Another process of this run ended ({first_line(error)}). Give the same command again: it goes on "
        "from the last checkpoint.",
        code="process-lost",
    )
