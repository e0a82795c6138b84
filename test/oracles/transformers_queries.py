"""Export small networks of queries as the transformers library builds them, with its own labels.

python transformers_queries.py OUT [mask2former|maskformer|eomt]
python transformers_queries.py --record OUT.npz

Needs an environment of its own: torch, transformers, onnx, onnxscript, scipy. Writes OUT/model.onnx
and config.json, image.npy (uint8 RGB, the network's size) and labels.npy, which is what
post_process_semantic_segmentation makes of the image, at its size. Weights are seeded. With
--record: seeded masks and class logits, and the labels that this makes of them for each kind.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers

CLASSES, SIZE = 7, 384  # the size that Mask2Former's post-processing has inside
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
MASK_LAYERS = ("mask_embedder.2.0", "mask_embedder.layers.2", "mask_head.fc3")
SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2]}


def build(kind: str) -> Any:
    """Return a small network of a kind, in eval mode."""
    torch.manual_seed(0)
    names = {"num_labels": CLASSES}
    if kind == "mask2former":
        config = transformers.Mask2FormerConfig(
            backbone_config=transformers.SwinConfig(
                **SWIN, image_size=SIZE, out_features=["stage1", "stage2", "stage3", "stage4"]
            ),
            hidden_dim=32, feature_size=32, mask_feature_size=32, num_queries=20,
            encoder_layers=1, decoder_layers=2, num_attention_heads=2,
            encoder_feedforward_dim=32, dim_feedforward=32, **names,
        )  # fmt: skip
        network = transformers.Mask2FormerForUniversalSegmentation(config)
    elif kind == "maskformer":
        config = transformers.MaskFormerConfig(
            backbone_config=transformers.SwinConfig(
                **SWIN, image_size=SIZE, out_features=["stage1", "stage2", "stage3", "stage4"]
            ),
            decoder_config=transformers.DetrConfig(
                d_model=32, decoder_layers=1, encoder_layers=1, decoder_attention_heads=2,
                encoder_attention_heads=2, num_queries=20,
            ),
            fpn_feature_size=32, mask_feature_size=32, **names,
        )  # fmt: skip
        network = transformers.MaskFormerForInstanceSegmentation(config)
    else:
        config = transformers.EomtConfig(
            hidden_size=32, num_hidden_layers=4, num_attention_heads=2, num_blocks=2,
            image_size=SIZE, patch_size=16, num_queries=20, **names,
        )  # fmt: skip
        network = transformers.EomtForUniversalSegmentation(config)
    return network.eval()


@torch.no_grad()
def spread(network: Any, x: torch.Tensor) -> None:
    """Scale the last layers until masks and classes differ; fresh weights give all one class."""
    for name, value in network.named_parameters():
        if "quer" in name and value.ndim == 2:
            value.normal_()
    y = network(pixel_values=x)
    heads = {"mask": (y.masks_queries_logits, 4), "class": (y.class_queries_logits, 2)}
    last = {"mask": MASK_LAYERS, "class": ("class_predictor",)}
    for what, (result, wanted) in heads.items():
        layer = next(m for n, m in network.named_modules() if n.endswith(last[what]))
        layer.weight.mul_(wanted / result.std())
        layer.bias.mul_(wanted / result.std())
    layer.bias.sub_(network(pixel_values=x).class_queries_logits[0].mean(0))
    y = network(pixel_values=x)
    layer.weight.mul_(2 / y.class_queries_logits.std())
    layer.bias.sub_(network(pixel_values=x).class_queries_logits[0].mean(0))


def with_float32_grids(path: Path) -> None:
    """Cast the grids, which the exporter leaves in float64: ONNX Runtime has no such operator."""
    model = onnx.load(path)
    for node in list(model.graph.node):
        if node.op_type == "GridSample":
            name = f"{node.name}_grid"
            cast = onnx.helper.make_node("Cast", [node.input[1]], [name], to=1)
            model.graph.node.insert(list(model.graph.node).index(node), cast)
            node.input[1] = name
    onnx.save(model, path)


class Both(torch.nn.Module):
    """The two outputs that count."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.network(pixel_values=x)
        return y.class_queries_logits, y.masks_queries_logits


def processor(kind: str) -> Any:
    """Return the library's image processor, without torchvision."""
    name = {"mask2former": "Mask2Former", "maskformer": "MaskFormer", "eomt": "Eomt"}[kind]
    path = f"transformers.models.{kind}.image_processing_pil_{kind}"
    size = {"shortest_edge": SIZE, "longest_edge": None}
    options = {"size": size, "do_split_image": False} if kind == "eomt" else {}
    return getattr(importlib.import_module(path), f"{name}ImageProcessorPil")(**options)


def record(path: Path) -> None:
    """Write what the library makes of seeded masks (1,20,24,24) and class logits (1,20,8)."""
    torch.manual_seed(1)
    coarse = torch.randn(1, 20, 6, 6) * 6
    masks = torch.nn.functional.interpolate(coarse, (24, 24), mode="bicubic")
    logits = torch.randn(1, 20, CLASSES + 1) * 2
    masks, logits = masks.half().float(), logits.half().float()
    result = {"masks": masks.half().numpy(), "logits": logits.half().numpy()}
    for kind in ("mask2former", "maskformer", "eomt"):
        y = transformers.utils.ModelOutput(
            class_queries_logits=logits, masks_queries_logits=masks, patch_offsets=None
        )
        (labels,) = processor(kind).post_process_semantic_segmentation(
            y, target_sizes=[(SIZE, SIZE)]
        )
        result[kind] = labels.numpy().astype(np.uint8)
    np.savez_compressed(path, **result)
    print(path, path.stat().st_size, {k: len(np.unique(v)) for k, v in result.items()})


def main() -> None:
    """Write everything."""
    if sys.argv[1] == "--record":
        record(Path(sys.argv[2]))
        return
    out, kind = Path(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "mask2former")
    out.mkdir(parents=True, exist_ok=True)
    network = build(kind)
    random = np.random.default_rng(5)
    coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, 12, 12)))
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")
    image = smooth[0].permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)
    x = ((image / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
    x = torch.from_numpy(np.ascontiguousarray(x))
    spread(network, x)
    with torch.no_grad():
        y = network(pixel_values=x)
        y.patch_offsets = None
        (labels,) = processor(kind).post_process_semantic_segmentation(
            y, target_sizes=[(SIZE, SIZE)]
        )
    np.save(out / "image.npy", image)
    np.save(out / "labels.npy", labels.numpy().astype(np.uint8))
    network.config.save_pretrained(out)
    torch.onnx.export(
        Both(network), (x,), str(out / "model.onnx"), input_names=["pixel_values"],
        output_names=["class_queries_logits", "masks_queries_logits"], opset_version=17,
        dynamo=False,
    )  # fmt: skip
    with_float32_grids(out / "model.onnx")
    print(out / "model.onnx", np.unique(labels.numpy(), return_counts=True))


if __name__ == "__main__":
    main()
