"""The grids of occupancy_node: one a group, and one of costs for a planner."""

from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from std_msgs.msg import Header

from seg_perception.labels import GROUPS
from seg_perception.messages import fill_grid
from seg_perception.nodes.qos import LATCHED
from seg_perception.occupancy.mapper import Mapper

SHOWN = tuple(name for name in GROUPS if name != "sky")


class Grids:
    """Outputs `~/grid/<group>` and `~/grid/cost`, latched."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers."""
        self._node = node
        self._outputs: dict[str, LifecyclePublisher[Any]] = {
            name: node.create_lifecycle_publisher(OccupancyGrid, f"~/grid/{name}", LATCHED)
            for name in (*SHOWN, "cost")
        }

    def withdraw(self) -> None:
        """Destroy the publishers."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, mapper: Mapper, header: Header) -> None:
        """Publish all grids as they are now; `header` names their frame and the look's stamp."""
        shares = mapper.grid.shares()
        for name in SHOWN:
            self._send(name, mapper, shares[GROUPS.index(name)], header)
        self._send("cost", mapper, mapper.costs(), header)

    def _send(self, name: str, mapper: Mapper, cells: Any, header: Header) -> None:
        grid = mapper.grid
        message = fill_grid(OccupancyGrid(), cells, grid.resolution, grid.origin, header)
        self._outputs[name].publish(message)
