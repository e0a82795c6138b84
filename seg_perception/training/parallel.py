"""Several processes that train one network, as torchrun starts them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Group:
    """This process's place among `size` processes; each learns from its part of every batch."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, prints and evaluates."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of values over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=_device())
        distributed.all_reduce(total)
        return [float(v) for v in total]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the gradients of all processes up, in one message."""
        if self.size == 1:
            return
        own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in own])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in own])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def average_buffers(self, model: nn.Module) -> None:
        """Give all processes the mean statistics of norms."""
        floats = [b for b in model.buffers() if b.is_floating_point()] if self.size > 1 else []
        if floats:
            flat = torch.cat([buffer.flatten() for buffer in floats])
            distributed.all_reduce(flat)
            sizes = [buffer.numel() for buffer in floats]
            for buffer, part in zip(floats, torch.split(flat / self.size, sizes), strict=True):
                buffer.copy_(part.view_as(buffer))

    def share(self, model: nn.Module) -> None:
        """Give all processes the weights of the first."""
        for value in model.state_dict().values() if self.size > 1 else ():
            distributed.broadcast(value, src=0)

    def told(self, value: Any) -> Any:
        """Return the first process's value in all of them."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=_device())
        return box[0]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process do the block before the others, who find what it left on disk."""
        if not self.is_first:
            distributed.barrier()
        yield
        if self.is_first and self.size > 1:
            distributed.barrier()


ALONE = Group()


@contextmanager
def grouped() -> Iterator[Group]:
    """Join the processes that torchrun started, or be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _device() -> torch.device:
    """Return where values are that processes exchange: NCCL knows GPUs alone."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
