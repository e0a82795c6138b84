"""Which crops a run draws, batch by batch: decided by its seed alone, from any step on."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from seg_perception.errors import UsageError
from seg_perception.training.config import Config
from seg_perception.training.crops import Crops, Key, collate
from seg_perception.training.parallel import ALONE, Group

SEEDS = 1_000_003  # a prime: no two steps of usual seeds draw alike
PARTS = 1024  # of a batch, at most
USES = ("augment", "network")  # what draws from a part's numbers
AHEAD = 4  # batches that a worker reads in advance
# How workers begin. A fork of this process may hang in OpenCV, whose threads do not come with it.
# Those of a fork server stay when this process is killed: they watch their parent, the server.
BEGIN = "spawn"


class Schedule(Sampler[list[Key]]):
    """Batches of keys from step `first` on. `weights` say how often each image is seen an epoch.

    Of several processes each has its part of every batch.
    """

    def __init__(
        self, weights: Sequence[float], config: Config, *, first: int = 0, group: Group = ALONE
    ) -> None:
        """UsageError for a batch that cannot be shared."""
        if config.batch % (group.size * config.accumulate) and group.size > 1:
            raise UsageError(
                f"batch is {config.batch}, and {group.size} processes with accumulate "
                f"{config.accumulate} share it: give a multiple of {group.size * config.accumulate}"
            )
        self._group = group
        self._weights, self._config, self._first = np.asarray(weights), config, first
        whole = round(float(self._weights.sum()))
        self.steps = max(1, whole // config.batch)  # of an epoch

    def __len__(self) -> int:
        return max(0, self.steps * self._config.epochs - self._first)

    def __iter__(self) -> Iterator[list[Key]]:
        batch, group = self._config.batch, self._group
        own = batch // group.size
        for epoch in range(self._first // self.steps, self._config.epochs):
            order = self._order(epoch)
            start = self._first % self.steps if epoch == self._first // self.steps else 0
            for step in range(start, self.steps):
                begin = step * batch + group.rank * own
                places = range(begin, begin + own)
                yield [(epoch, at, int(order[at % len(order)])) for at in places]

    def _order(self, epoch: int) -> NDArray[Any]:
        """Return the images of an epoch: each by its weight, parts of one by chance, shuffled."""
        random = np.random.default_rng((self._config.seed, epoch))
        whole = np.floor(self._weights)
        times = (whole + (random.random(len(whole)) < self._weights - whole)).astype(int)
        indices = np.repeat(np.arange(len(times)), times)
        return random.permutation(indices if len(indices) else np.arange(len(times)))


def loader(crops: Crops, schedule: Schedule, config: Config) -> DataLoader[Any]:
    """Return the batches of a schedule, read by the config's workers."""
    return DataLoader(
        crops,
        batch_sampler=schedule,
        num_workers=config.workers,
        collate_fn=collate,
        worker_init_fn=_begin_worker,
        multiprocessing_context=BEGIN if config.workers else None,
        prefetch_factor=AHEAD if config.workers else None,
        pin_memory=config.device != "cpu",
    )


def seed_part(config: Config, step: int, part: int, use: str) -> None:
    """Make what a part of a step draws its own, however the run came to it; `use` is of USES."""
    number = (config.seed * SEEDS + step) * PARTS + part
    torch.manual_seed(number * len(USES) + USES.index(use))


def _begin_worker(_: int) -> None:
    """Leave Ctrl-C to the process that saves, and the processor to the network."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
