"""The architectures and data sets that the package knows, as a list that needs no torch."""

from typing import NamedTuple


class Entry(NamedTuple):
    """One variant: parameters, and GMACs (1e9 multiply-adds) at `size` (height, width).

    Counts cover convolutions and matrix products; tests count them again on the real network.
    """

    arch: str
    dataset: str
    parameters: int
    gmacs: float
    size: tuple[int, int]


ENTRIES = (
    Entry("topformer_tiny", "ade20k", 1_389_654, 0.5341, (512, 512)),
    Entry("topformer_small", "ade20k", 3_034_662, 1.1123, (512, 512)),
    Entry("topformer_base", "ade20k", 5_062_646, 1.7522, (512, 512)),
    Entry("topformer_tiny", "cityscapes", 1_389_011, 1.0703, (512, 1024)),
    Entry("topformer_base", "cityscapes", 4_839_667, 2.6970, (512, 1024)),
)
