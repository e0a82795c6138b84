"""SETR's weights as mmsegmentation writes them, with other heads than the official ones."""

from seg_perception.models.dialects import Dialect, Rename, reversed_quarters

NAME = "mmsegmentation"
IGNORED = ("auxiliary_head.", "data_preprocessor.")
UNBIASED = ("backbone.patch_embed.proj.bias",)  # since 1.2

_LAYER, _OWN = "backbone.layers.{b}", "backbone.blocks.{b}"
BACKBONE = (
    Rename("backbone.{token}", "backbone.{token}"),
    Rename("backbone.patch_embed.projection.{w}", "backbone.patch_embed.proj.{w}"),
    Rename(_LAYER + ".ln1.{w}", _OWN + ".norm1.{w}"),
    Rename(_LAYER + ".ln2.{w}", _OWN + ".norm2.{w}"),
    Rename(_LAYER + ".attn.attn.in_proj_{w}", _OWN + ".attn.qkv.{w}"),
    Rename(_LAYER + ".attn.attn.out_proj.{w}", _OWN + ".attn.proj.{w}"),
    Rename(_LAYER + ".ffn.layers.0.0.{w}", _OWN + ".mlp.fc1.{w}"),
    Rename(_LAYER + ".ffn.layers.1.{w}", _OWN + ".mlp.fc2.{w}"),
)
UP = (
    Rename("decode_head.norm.{w}", "decode_head.norm.{w}"),
    Rename("decode_head.up_convs.{i}.0.conv.{w}", "decode_head.conv_{i}.{w}"),
    Rename("decode_head.up_convs.{i}.0.bn.{w}", "decode_head.syncbn_fc_{i}.{w}"),
)
NAIVE = Dialect(
    NAME,
    ("setr_naive", "setr_naive_base"),
    (*BACKBONE, *UP, Rename("decode_head.conv_seg.{w}", "decode_head.conv_1.{w}")),
    changes={"enlarge": 4},
    ignored=IGNORED,
    zeros=(*UNBIASED, "decode_head.conv_0.bias"),
)
PUP = Dialect(
    NAME,
    ("setr_pup",),
    (*BACKBONE, *UP, Rename("decode_head.conv_seg.{w}", "decode_head.conv_4.{w}")),
    ignored=IGNORED,
    zeros=(*UNBIASED, *(f"decode_head.conv_{i}.bias" for i in range(4))),
)
# Its neck gives the deepest map first, and so its head reads them.
_MLA, _HEAD = "backbone.mla.mla_p", "decode_head.mlahead.head{5-i}"
MLA = Dialect(
    NAME,
    ("setr_mla",),
    (
        *BACKBONE,
        Rename("neck.norm.{i}.{w}", "backbone.norm_{i}.{w}"),
        Rename("neck.mla.channel_proj.{i}.conv.{w}", _MLA + "{i+2}_1x1.0.{w}"),
        Rename("neck.mla.channel_proj.{i}.bn.{w}", _MLA + "{i+2}_1x1.1.{w}"),
        Rename("neck.mla.feat_extract.{i}.conv.{w}", _MLA + "{5-i}.0.{w}"),
        Rename("neck.mla.feat_extract.{i}.bn.{w}", _MLA + "{5-i}.1.{w}"),
        Rename("decode_head.up_convs.{i}.0.conv.{w}", _HEAD + ".0.{w}"),
        Rename("decode_head.up_convs.{i}.0.bn.{w}", _HEAD + ".1.{w}"),
        Rename("decode_head.up_convs.{i}.1.conv.{w}", _HEAD + ".3.{w}"),
        Rename("decode_head.up_convs.{i}.1.bn.{w}", _HEAD + ".4.{w}"),
        Rename("decode_head.conv_seg.{w}", "decode_head.cls.{w}", reversed_quarters),
    ),
    changes={"cls_kernel": 1, "align_corners": False},
    ignored=IGNORED,
    zeros=UNBIASED,
)
DIALECTS = (NAIVE, PUP, MLA)
