"""segmentation_node and occupancy_node in one process.

Names, parameters and topics are those of the two nodes. They share the interpreter, its lock, the
executor and the DDS participant; each keeps its worker, and with it the newest message first.
"""

from seg_perception.nodes.occupancy_node import OccupancyNode
from seg_perception.nodes.process import run
from seg_perception.nodes.segmentation_node import SegmentationNode


def main(args: list[str] | None = None) -> None:
    """Run both nodes until they are told to stop."""
    run(SegmentationNode, OccupancyNode, args=args)


if __name__ == "__main__":
    main()
