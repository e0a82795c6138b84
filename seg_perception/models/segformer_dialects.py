"""SegFormer's weights as Hugging Face transformers and mmsegmentation write them."""

from typing import Any

from seg_perception.models.dialects import Dialect, Rename, as_linear, joined, query_and_rest
from seg_perception.models.segformer import HEADS, MLP_RATIO, REDUCTIONS, SegFormerConfig

ARCHS = tuple(f"segformer_b{size}" for size in range(6))
# `conv_seg` of the official head is never read.
UNREAD = ("decode_head.conv_seg.",)

_EMBED, _OWN = "backbone.patch_embed{s+1}", "backbone.block{s+1}.{b}"
_OLD = "segformer.encoder.block.{s}.{b}"
# transformers 5 keeps these names in memory and in what torch.save writes of it; save_pretrained
# writes the old ones.
_STAGE = "segformer.stages.{s}"
_NEW = _STAGE + ".blocks.{b}"
_REDUCTION = _NEW + ".attention.sequence_reduction"
HUGGING_FACE = Dialect(
    "hugging_face",
    ARCHS,
    (
        Rename("segformer.encoder.patch_embeddings.{s}.proj.{w}", _EMBED + ".proj.{w}"),
        Rename("segformer.encoder.patch_embeddings.{s}.layer_norm.{w}", _EMBED + ".norm.{w}"),
        Rename("segformer.encoder.layer_norm.{s}.{w}", "backbone.norm{s+1}.{w}"),
        Rename(_OLD + ".layer_norm_1.{w}", _OWN + ".norm1.{w}"),
        Rename(_OLD + ".layer_norm_2.{w}", _OWN + ".norm2.{w}"),
        Rename(_OLD + ".attention.self.query.{w}", _OWN + ".attn.q.{w}"),
        Rename(
            (_OLD + ".attention.self.key.{w}", _OLD + ".attention.self.value.{w}"),
            _OWN + ".attn.kv.{w}", joined,
        ),
        Rename(_OLD + ".attention.self.sr.{w}", _OWN + ".attn.sr.{w}"),
        Rename(_OLD + ".attention.self.layer_norm.{w}", _OWN + ".attn.norm.{w}"),
        Rename(_OLD + ".attention.output.dense.{w}", _OWN + ".attn.proj.{w}"),
        Rename(_OLD + ".mlp.dense1.{w}", _OWN + ".mlp.fc1.{w}"),
        Rename(_OLD + ".mlp.dwconv.dwconv.{w}", _OWN + ".mlp.dwconv.dwconv.{w}"),
        Rename(_OLD + ".mlp.dense2.{w}", _OWN + ".mlp.fc2.{w}"),
        Rename("decode_head.linear_c.{s}.proj.{w}", "decode_head.linear_c{s+1}.proj.{w}"),
        Rename(_STAGE + ".patch_embeddings.proj.{w}", _EMBED + ".proj.{w}"),
        Rename(_STAGE + ".patch_embeddings.layer_norm.{w}", _EMBED + ".norm.{w}"),
        Rename(_STAGE + ".layer_norm.{w}", "backbone.norm{s+1}.{w}"),
        Rename(_NEW + ".layernorm_before.{w}", _OWN + ".norm1.{w}"),
        Rename(_NEW + ".layernorm_after.{w}", _OWN + ".norm2.{w}"),
        Rename(_NEW + ".attention.q_proj.{w}", _OWN + ".attn.q.{w}"),
        Rename(
            (_NEW + ".attention.k_proj.{w}", _NEW + ".attention.v_proj.{w}"),
            _OWN + ".attn.kv.{w}", joined,
        ),
        Rename(_REDUCTION + ".sequence_reduction.{w}", _OWN + ".attn.sr.{w}"),
        Rename(_REDUCTION + ".layer_norm.{w}", _OWN + ".attn.norm.{w}"),
        Rename(_NEW + ".attention.o_proj.{w}", _OWN + ".attn.proj.{w}"),
        Rename(_NEW + ".mlp.fc1.{w}", _OWN + ".mlp.fc1.{w}"),
        Rename(_NEW + ".mlp.dwconv.dwconv.{w}", _OWN + ".mlp.dwconv.dwconv.{w}"),
        Rename(_NEW + ".mlp.fc2.{w}", _OWN + ".mlp.fc2.{w}"),
        Rename("decode_head.linear_projections.{s}.proj.{w}", "decode_head.linear_c{s+1}.proj.{w}"),
        Rename("decode_head.linear_fuse.weight", "decode_head.linear_fuse.conv.weight"),
        Rename("decode_head.batch_norm.{w}", "decode_head.linear_fuse.bn.{w}"),
        Rename("decode_head.classifier.{w}", "decode_head.linear_pred.{w}"),
    ),
    # Its norms have torch's eps, whatever layer_norm_eps the config says.
    changes={"block_eps": 1e-5},
    zeros=UNREAD,
)  # fmt: skip

_LAYER = "backbone.layers.{s}.1.{b}"
MMSEGMENTATION = Dialect(
    "mmsegmentation",
    ARCHS,
    (
        Rename("backbone.layers.{s}.0.projection.{w}", _EMBED + ".proj.{w}"),
        Rename("backbone.layers.{s}.0.norm.{w}", _EMBED + ".norm.{w}"),
        Rename("backbone.layers.{s}.2.{w}", "backbone.norm{s+1}.{w}"),
        Rename(_LAYER + ".norm1.{w}", _OWN + ".norm1.{w}"),
        Rename(_LAYER + ".norm2.{w}", _OWN + ".norm2.{w}"),
        Rename(
            _LAYER + ".attn.attn.in_proj_{w}", (_OWN + ".attn.q.{w}", _OWN + ".attn.kv.{w}"),
            query_and_rest,
        ),
        Rename(_LAYER + ".attn.attn.out_proj.{w}", _OWN + ".attn.proj.{w}"),
        Rename(_LAYER + ".attn.sr.{w}", _OWN + ".attn.sr.{w}"),
        Rename(_LAYER + ".attn.norm.{w}", _OWN + ".attn.norm.{w}"),
        Rename(_LAYER + ".ffn.layers.0.{w}", _OWN + ".mlp.fc1.{w}", as_linear),
        Rename(_LAYER + ".ffn.layers.1.{w}", _OWN + ".mlp.dwconv.dwconv.{w}"),
        Rename(_LAYER + ".ffn.layers.4.{w}", _OWN + ".mlp.fc2.{w}", as_linear),
        Rename("decode_head.convs.{s}.{m}.{w}", "decode_head.convs.{s}.{m}.{w}"),
        Rename("decode_head.fusion_conv.{m}.{w}", "decode_head.fusion_conv.{m}.{w}"),
        Rename("decode_head.conv_seg.{w}", "decode_head.linear_pred.{w}"),
    ),
    changes={"head": "conv", "head_width": 256, "coarse_eps": 1e-6},
    ignored=("auxiliary_head.", "data_preprocessor."),
)  # fmt: skip
DIALECTS = (HUGGING_FACE, MMSEGMENTATION)


def expected_config(config: SegFormerConfig) -> dict[str, Any]:
    """Return what config.json of transformers says of a network, by its keys."""
    return {
        "model_type": "segformer",
        "num_channels": 3,
        "num_encoder_blocks": len(config.depths),
        "depths": list(config.depths),
        "hidden_sizes": list(config.widths),
        "decoder_hidden_size": config.head_width,
        "num_attention_heads": list(HEADS),
        "sr_ratios": list(REDUCTIONS),
        "mlp_ratios": [MLP_RATIO] * len(config.depths),
        "patch_sizes": [7, 3, 3, 3],
        "strides": [4, 2, 2, 2],
        "hidden_act": "gelu",
    }
