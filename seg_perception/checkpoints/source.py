"""What a checkpoint of any library holds, before it is known which network it is of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_perception.checkpoints.safetensors_file import read_safetensors
from seg_perception.errors import CheckpointError
from seg_perception.runtimes.safe_load import check_weights, read_weights_only

WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "model.")
AVERAGES = "ema_"  # how mmcv names moving averages, which are next to the weights
AVERAGED = "ema_state_dict"  # where mmengine keeps the other set of weights
# What training tools save next to the weights and nothing here reads.
LEFT_OUT = ("optimizer", "param_schedulers", "message_hub", "scheduler", "lr_scheduler")
SCALED = "data_preprocessor."  # mmengine's mean and std, where a file holds them


@dataclass(frozen=True)
class Source:
    """The weights of a checkpoint under the names of its library, and what it says of them.

    `files` are those that hold the weights. `names` of the classes and their `palette` are empty
    where it says nothing; `input` holds keys of InputSpec; `config` is what a Hugging Face folder
    says of its network. `notes` are for the user to read.
    """

    path: Path
    weights: Mapping[str, Tensor]
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_source(path: Path, *, ema: bool = False) -> Source:
    """Read a checkpoint file, or a folder of Hugging Face transformers; nothing in it is run.

    With `ema` its moving averages take the place of its weights. CheckpointError says what cannot
    be read.
    """
    from seg_perception.checkpoints.hugging_face import is_in_folder, read_folder

    if path.is_dir():
        source = read_folder(path)
    elif is_in_folder(path):
        source = read_folder(path.parent, weights=path.name)
    elif path.suffix == ".safetensors" and path.is_file():
        source = Source(path, check_weights(read_safetensors(path), path), (path,))
    else:
        return _of_training(path, read_weights_only(path), ema=ema)
    if ema:
        raise CheckpointError(f"{path} holds no moving averages: leave --ema out")
    return source


def _of_training(path: Path, loaded: Any, *, ema: bool) -> Source:
    """Take off the wrappers that training tools put around a state dict."""
    whole = loaded if isinstance(loaded, Mapping) else {}
    notes = []
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    weights, averages = _without_averages(_bare(check_weights(loaded, path)))
    other = whole.get(AVERAGED)
    if isinstance(other, Mapping):
        averages = _bare(check_weights({k: v for k, v in other.items() if k != "steps"}, path))
    if ema and not averages:
        raise CheckpointError(f"{path} holds no moving averages: leave --ema out")
    if averages:
        notes.append(_about_averages(used=ema, swapped=isinstance(other, Mapping)))
    if ema:
        weights = {**weights, **averages}
    left_out = [key for key in LEFT_OUT if key in whole]
    if left_out:
        notes.append(f"left out, as only training needs it: {', '.join(left_out)}")
    names, palette = _of_data_set(whole.get("meta"))
    scaling = _scaling(weights)
    return Source(path, weights, (path,), names, palette, scaling, notes=tuple(notes))


def _bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the beginnings that all keys share."""
    while shared := [p for p in PREFIXES if all(key.startswith(p) for key in weights)]:
        weights = {key.removeprefix(shared[0]): value for key, value in weights.items()}
    return weights


def _without_averages(
    weights: dict[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights, and mmcv's moving averages of them by the same keys."""
    plain = {key: value for key, value in weights.items() if not key.startswith(AVERAGES)}
    averages = {}
    for key in plain:
        name = AVERAGES + key.replace(".", "_")
        if name in weights:
            averages[key] = weights[name]
    return (plain, averages) if averages else (weights, {})


def _about_averages(*, used: bool, swapped: bool) -> str:
    """Say which of two sets of weights was taken."""
    what = f"the weights under {AVERAGED}" if swapped else f"the keys that start with {AVERAGES}"
    text = f"used: {what}" if used else f"not used: {what}; --ema takes them"
    if swapped:
        text += (
            ". mmengine exchanges the two when it saves: its files hold the moving averages under "
            f"state_dict, and the weights of the last step under {AVERAGED}"
        )
    return text


def _of_data_set(meta: Any) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Return the names and colours of the classes that mmsegmentation saves, or nothing."""
    meta = meta if isinstance(meta, Mapping) else {}
    said = meta.get("dataset_meta")
    said = said if isinstance(said, Mapping) else {k.lower(): v for k, v in meta.items()}
    names, palette = said.get("classes"), said.get("palette")
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        return (), ()
    try:
        colours = tuple((int(r), int(g), int(b)) for r, g, b in palette or ())
    except (TypeError, ValueError):  # an array that was left out, or no colours
        colours = ()
    return tuple(names), colours if len(colours) == len(names) else ()


def _scaling(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the mean and std by which mmengine's data preprocessor normalises, where saved."""
    found = {key: weights.get(SCALED + key) for key in ("mean", "std")}
    return {
        key: [float(v) for v in value.flatten()]
        for key, value in found.items()
        if value is not None and value.numel() == 3
    }
