"""Record how other libraries write weights, and what they make of the rule's weights.

    PYTHONPATH=test python test/support/record_dialects.py {hugging_face | mmsegmentation}

Run it with the library's own environment (make test-oracles makes it). It writes into
test/data/dialects/: the keys and shapes of real networks, and outputs of small ones whose weights
are drawn by the rule of reference.py under the library's own keys.
"""

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from support import reference
from support.paths import DATA

DATA = DATA / "dialects"
CLASSES = 7
STRIDE = 4  # of the pixels that are kept of a full-size output
DEPTHS = {
    "b0": [2, 2, 2, 2], "b1": [2, 2, 2, 2], "b2": [3, 4, 6, 3],
    "b3": [3, 4, 18, 3], "b4": [3, 8, 27, 3], "b5": [3, 6, 40, 3],
}  # fmt: skip
VIT = {"embed_dims": 64, "num_layers": 4, "num_heads": 4, "img_size": (64, 64)}


def keys_of(weights: dict[str, Tensor]) -> list[list[Any]]:
    return [[key, list(value.shape)] for key, value in weights.items()]


def by_rule(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.from_numpy(reference.tensor(k, list(v.shape))) for k, v in weights.items()}


def write(library: str, keys: dict[str, Any], outputs: dict[str, np.ndarray]) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    text = json.dumps(keys, separators=(",", ":")).encode()
    (DATA / f"{library}.keys.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    np.savez_compressed(DATA / f"{library}.golden.npz", **outputs)


def outputs_of(run: Any, network: nn.Module, x: Tensor) -> Iterator[np.ndarray]:
    """Yield the output in float32, and how far it is from the same in float64."""
    with torch.no_grad():
        single = run(network, x).numpy()
        double = run(network.double(), x.double()).numpy()
    yield single
    yield np.abs(double - single).max()


def eps_of(network: nn.Module) -> np.ndarray:
    """Return every eps of the network's layer norms; outputs hardly show them."""
    return np.unique([m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)])


def hugging_face() -> None:
    from safetensors.torch import load_file, save_file
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    keys, golden = {}, {}
    for size, depths in DEPTHS.items():
        widths = [32, 64, 160, 256] if size == "b0" else [64, 128, 320, 512]
        config = SegformerConfig(
            depths=depths, hidden_sizes=widths, decoder_hidden_size=256 if size < "b2" else 768,
            id2label={i: f"class {i}" for i in range(CLASSES)},
            label2id={f"class {i}": i for i in range(CLASSES)},
        )  # fmt: skip
        network = SegformerForSemanticSegmentation(config)
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            file = Path(folder) / "model.safetensors"
            saved = load_file(file)
            keys[f"segformer_{size}|saved"] = keys_of(saved)
            keys[f"segformer_{size}|in memory"] = keys_of(network.state_dict())
            if size != "b0":
                continue
            save_file(by_rule(saved), file, metadata={"format": "pt"})
            network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
        x = reference.image(64, 96)
        logits, noise = outputs_of(lambda n, x: n(x).logits, network, x)
        golden |= {"segformer_b0": logits, "segformer_b0__noise": noise}
        golden["segformer_b0__eps"] = eps_of(network)
    write("hugging_face", keys, golden)


def mmsegmentation() -> None:
    import mmcv

    mmcv.__version__ = "2.1.0"  # the newest that mmseg 1.2.2 takes
    for name in ("mmcv.ops", "mmcv.ops.point_sample", "mmcv.ops.carafe"):
        sys.modules[name] = WithoutOperators(name)
    import mmseg
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    folder = Path(mmseg.__file__).parent / ".mim" / "configs"

    def build(path: str, **backbone: Any) -> nn.Module:
        model = Config.fromfile(folder / path).model
        model.pretrained, model.train_cfg = None, {}
        model.backbone.init_cfg = None
        model.decode_head.num_classes = CLASSES
        if backbone:
            model.backbone.update(backbone)
            width = backbone["embed_dims"]
            if "neck" in model:
                model.backbone.out_indices = (0, 1, 2, 3)
                model.neck.in_channels = [width] * 4
            else:
                model.backbone.out_indices = (3,)
                model.decode_head.update(in_channels=width, in_index=0)
            model.auxiliary_head = None
        network: nn.Module = MODELS.build(model)
        return network

    def run(network: nn.Module, x: Tensor) -> Tensor:
        side = tuple(x.shape[2:])
        metas = [{"img_shape": side, "ori_shape": side, "pad_shape": side}]
        whole: Tensor = network.whole_inference(x, metas)
        return whole

    keys, golden = {}, {}
    small = {}
    for size in DEPTHS:
        network = build(f"segformer/segformer_mit-{size}_8xb2-160k_ade20k-512x512.py")
        keys[f"segformer_{size}|1.x"] = keys_of(network.state_dict())
        if size == "b0":
            small["segformer_b0"] = (network, reference.image(64, 96))
    for head in ("naive", "pup", "mla"):
        path = f"setr/setr_vit-l_{head}_8xb1-80k_cityscapes-768x768.py"
        keys[f"setr_{head}|1.x"] = keys_of(build(path).state_dict())
        small[f"setr_{head}"] = (build(path, **VIT), reference.image(64, 64))
    for name, (network, x) in small.items():
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        keys[f"{name}|small"] = keys_of(network.state_dict())
        network.load_state_dict(by_rule(network.state_dict()))
        network = without_sync(network).eval()
        full, noise = outputs_of(run, network, x)
        golden |= {name: full[:, :, ::STRIDE, ::STRIDE], f"{name}__noise": noise}
        golden[f"{name}__eps"] = eps_of(network)
    write("mmsegmentation", keys, golden)


def without_sync(network: nn.Module) -> nn.Module:
    """Replace SyncBatchNorm by BatchNorm, which runs on the CPU as well, with its weights."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.SyncBatchNorm):
            plain = nn.BatchNorm2d(module.num_features, eps=module.eps)
            plain.load_state_dict(module.state_dict())
            network.set_submodule(name, plain)
    return network


class WithoutOperators(type(sys)):  # type: ignore[misc]
    """Stands in for compiled operators that these networks do not use."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return nn.Module


if __name__ == "__main__":
    {"hugging_face": hugging_face, "mmsegmentation": mmsegmentation}[sys.argv[1]]()
