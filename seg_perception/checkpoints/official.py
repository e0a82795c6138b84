"""Read checkpoints of known networks: weights only, every key accounted for, strict."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from seg_perception.checkpoints.hugging_face import check_config
from seg_perception.checkpoints.recognise import Fit, recognise
from seg_perception.checkpoints.source import Source, read_source
from seg_perception.models import family_of
from seg_perception.models.loading import take_weights
from seg_perception.runtimes.safe_load import check_finite


def load_official(path: str | Path, *, arch: str, dataset: str) -> nn.Module:
    """Return the network of an official checkpoint in eval mode, on the CPU.

    `module(x)` gives what comes before upsampling, `module.scores(x)` the official full-size
    class map (N,K,H,W) of a normalised float32 (N,3,H,W). Raises CheckpointError when the file
    cannot be read without running code, or does not fit `arch` key by key.
    """
    return load_checkpoint(Path(path), arch=arch, dataset=dataset).network


class Loaded(NamedTuple):
    """A network in eval mode, what it was recognised as, and what its checkpoint says of it."""

    network: nn.Module
    fit: Fit
    source: Source


def load_checkpoint(path: Path, *, arch: str = "", dataset: str = "", ema: bool = False) -> Loaded:
    """Return the network of a checkpoint of any dialect; `arch` and `dataset` decide ties.

    CheckpointError says what cannot be read, or differs from every network that is known.
    """
    source = read_source(path, ema=ema)
    fit = recognise(source.weights, path, arch=arch, dataset=dataset)
    if source.config:
        expected = family_of(fit.arch).expected_config(fit.config)
        check_config(source, expected, arch=fit.arch, classes=fit.classes)
    check_finite(fit.weights, path)
    network = fit.build()
    take_weights(network, fit.weights)
    return Loaded(network.eval(), fit._replace(weights={}), source)
