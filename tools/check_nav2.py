"""Hold a running costmap of Nav2 against what occupancy_node publishes.

python tools/check_nav2.py                       # next to a robot's own Nav2 and nodes
python tools/check_nav2.py --play BAG --times 10  # starts nodes and costmap itself, in both orders

Exit status 1 where a figure is out of its limit. Needs the ROS environment; where the costmap's
frame is not that of the clouds also tf2_msgs.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import OccupancyGrid
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from seg_perception.errors import GeometryError
from seg_perception.labels import GROUPS
from seg_perception.live.session import find_topics
from seg_perception.messages import stamp_ns, to_array
from seg_perception.nav2.parameters import (
    OBSTACLE_LAYERS,
    SEMANTIC_LAYER,
    is_costmap,
    layers_of,
    read_nodes,
    section,
)
from seg_perception.occupancy.camera import OPTICAL, Pose
from seg_perception.occupancy.transforms import TransformTree

ROOT = Path(__file__).parent.parent
LETHAL = 100  # of an OccupancyGrid
UPDATES = 2  # of the costmap, within which it has to know
IN_A_ROW = 3  # clouds, which together are older than the time between two updates
SLACK_S = 0.3  # beyond expected_update_rate, until silence is noticed
SETTLE_S = 1.0  # at the beginning, when not every message is heard yet
START_S = 30.0
RATE = 0.5  # of a bag that is played: slow machines keep up
SIMULATED = ["-p", "use_sim_time:=true"]  # stamps of a recording need its clock
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
STALE = "has not been updated"  # as the observation buffer logs it


class Limit(NamedTuple):
    """Of a figure: the least share that passes."""

    text: str
    least: float


LIMITS = {
    "obstacles": Limit("cells of ~/obstacles that are lethal", 1.0),
    "danger": Limit("cells of obstacle, person, vehicle in the set that are lethal", 1.0),
    "ground": Limit("pixels of the ground whose cell costs what their class costs, or more", 0.9),
    "cleared": Limit("cells of free ground that are not lethal", 0.95),
}


class Expectation(NamedTuple):
    """Cells that must be so in one of the next costmaps."""

    what: str
    places: np.ndarray  # (n,2) metres
    least: np.ndarray  # (n,) costs of an OccupancyGrid
    most: np.ndarray


class Check:
    """Subscriptions to our topics and to the costmap, and what was counted."""

    def __init__(
        self, node: Any, costmap: str, parameters: dict[str, Any], camera: Pose | None
    ) -> None:
        """Subscribe; `camera` takes the optical frame into the costmap's where no tf does."""
        self.node, self._camera = node, camera
        self.updates = 0  # of the costmap
        self.has_heard = False  # a cloud of ours
        self.silent_since: float | None = None  # when a layer said that it hears nothing
        self.counted = {name: np.zeros(2, np.int64) for name in LIMITS}  # right, all
        self._costs = class_costs(parameters)
        self._tree = TransformTree()
        self._resolution = float(parameters.get("resolution", 0.1))
        self._recent: dict[str, deque[set[tuple[int, int]]]] = {
            name: deque(maxlen=IN_A_ROW) for name in ("obstacles", "danger")
        }
        self._waiting: list[tuple[int, Expectation, np.ndarray]] = []
        self._danger: dict[tuple[int, int], float] = {}  # by decimetre, when it was seen
        self._set: dict[str, Any] = {}
        self._started = time.monotonic()
        topics = [
            (PointCloud2, "/occupancy_node/obstacles", self._on_obstacles, SENSOR_DATA),
            (PointCloud2, "/occupancy_node/clearing", self._on_clearing, SENSOR_DATA),
            (Image, "/occupancy_node/costmap/label_mask", self._on_mask, SENSOR_DATA),
            (PointCloud2, "/occupancy_node/costmap/points", self._on_points, SENSOR_DATA),
            (OccupancyGrid, f"{costmap.rsplit('/', 1)[0]}/costmap", self._on_costmap, LATCHED),
            (Log, "/rosout", self._on_log, 100),
        ]
        for kind, topic, callback, qos in topics:
            node.create_subscription(kind, topic, callback, qos)
        self._frame = ""
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            return
        node.create_subscription(TFMessage, "/tf", lambda m: self._on_tf(m, False), 100)
        node.create_subscription(TFMessage, "/tf_static", lambda m: self._on_tf(m, True), LATCHED)

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Handle messages for some time, or until `done`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not done():
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def has_counted_all(self) -> bool:
        """Return whether each figure has something behind it."""
        return all(count > 0 for _, count in self.counted.values())

    def report(self) -> bool:
        """Print each figure; return whether all are within their limits."""
        passes = self.updates > 0
        print(f"{self.updates} updates of the costmap")
        for name, (text, least) in LIMITS.items():
            right, count = self.counted[name]
            share = right / count if count else 0.0
            is_good = count > 0 and share >= least
            passes &= is_good
            print(f"{verdict(is_good)} {share:.1%} of {count} {text}; {least:.0%} or more")
        return bool(passes)

    def _on_tf(self, message: Any, is_static: bool) -> None:
        for t in message.transforms:
            moved, turned = t.transform.translation, t.transform.rotation
            self._tree.add(
                t.header.frame_id, t.child_frame_id, stamp_ns(t.header),
                (moved.x, moved.y, moved.z), (turned.x, turned.y, turned.z, turned.w),
                is_static=is_static,
            )  # fmt: skip

    def _on_obstacles(self, cloud: PointCloud2) -> None:
        points = self._places(cloud)
        if points is not None and len(points):
            self._remember(points)
            self._expect_lethal("obstacles", points)

    def _on_clearing(self, cloud: PointCloud2) -> None:
        self.has_heard = True
        points = self._places(cloud)
        if points is None or not len(points):
            return
        now = time.monotonic()
        near = [
            any(now - self._danger.get((u + i, v + j), -60.0) < 4.0
                for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2))
            for u, v in np.floor(points * 10).astype(int)
        ]  # fmt: skip
        points = points[~np.array(near, bool)]
        zero = np.zeros(len(points), int)
        self._expect(Expectation("cleared", points, zero, zero + LETHAL - 1))

    def _on_mask(self, mask: Image) -> None:
        self._set["mask"] = mask
        self._match()

    def _on_points(self, cloud: PointCloud2) -> None:
        self._set["points"] = cloud
        self._match()

    def _match(self) -> None:
        mask, cloud = self._set.get("mask"), self._set.get("points")
        if mask is None or cloud is None or stamp_ns(mask.header) != stamp_ns(cloud.header):
            return
        self._set.clear()
        points = self._places(cloud, keep=True)
        if points is None:
            return
        ids, known = to_array(mask).ravel(), np.isfinite(points).all(1)
        least = self._costs[ids]
        is_danger = known & (least == LETHAL)
        self._remember(points[is_danger])
        self._expect_lethal("danger", points[is_danger])
        ground = known & (least < LETHAL)
        most = np.full(int(ground.sum()), LETHAL)
        self._expect(Expectation("ground", points[ground], least[ground], most))

    def _expect_lethal(self, what: str, points: np.ndarray) -> None:
        """Expect the cells that several clouds in a row hold: of one alone no update may know."""
        recent = self._recent[what]
        recent.append({(int(u), int(v)) for u, v in np.floor(points / self._resolution)})
        if len(recent) == recent.maxlen:
            common = np.array(sorted(set.intersection(*recent))).reshape(-1, 2)
            lethal = np.full(len(common), LETHAL)
            places = (common + 0.5) * self._resolution
            self._expect(Expectation(what, places, lethal, lethal))

    def _remember(self, points: np.ndarray) -> None:
        now = time.monotonic()
        self._danger |= {(int(u), int(v)): now for u, v in np.floor(points * 10)}

    def _places(self, cloud: PointCloud2, *, keep: bool = False) -> np.ndarray | None:
        """Return x and y (n,2) in the costmap's frame, None while that is not known."""
        if not self._frame:
            return None
        frame, pose = cloud.header.frame_id, Pose(np.eye(3), np.zeros(3))
        if frame != self._frame:
            try:
                pose = self._tree.lookup(self._frame, frame, stamp_ns(cloud.header))
            except GeometryError:
                if self._camera is None:
                    return None
                pose = self._camera
        floats = np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_step // 4)[:, :3]
        points = pose.apply(floats.astype(np.float64))[:, :2]
        return points if keep else points[np.isfinite(points).all(1)]

    def _expect(self, expectation: Expectation) -> None:
        if time.monotonic() - self._started > SETTLE_S and len(expectation.places):
            found = np.zeros(len(expectation.places), bool)
            self._waiting.append((self.updates, expectation, found))

    def _on_costmap(self, grid: OccupancyGrid) -> None:
        self._frame = grid.header.frame_id
        self.updates += 1
        costs = np.asarray(grid.data, np.int16).reshape(grid.info.height, grid.info.width)
        corner = grid.info.origin.position
        still: list[tuple[int, Expectation, np.ndarray]] = []
        for since, expected, found in self._waiting:
            place = (expected.places - (corner.x, corner.y)) / grid.info.resolution
            columns, rows = np.floor(place).astype(int).T
            inside = (rows >= 1) & (rows < costs.shape[0] - 1)
            inside &= (columns >= 1) & (columns < costs.shape[1] - 1)
            seen = costs[rows.clip(0, costs.shape[0] - 1), columns.clip(0, costs.shape[1] - 1)]
            found |= (seen >= expected.least - 1) & (seen <= expected.most)
            if self.updates - since <= UPDATES:
                still.append((since, expected, found))
            else:
                self.counted[expected.what] += int(found[inside].sum()), int(inside.sum())
        self._waiting = still

    def _on_log(self, message: Log) -> None:
        if STALE in message.msg and self.silent_since is None:
            self.silent_since = time.monotonic()


def verdict(is_good: bool) -> str:
    return "ok   " if is_good else "WRONG"


def class_costs(parameters: dict[str, Any]) -> np.ndarray:
    """Return the cost of each group's id (256,), as an OccupancyGrid shows it."""
    costs = np.zeros(256, int)
    for layer in layers_of(parameters):
        if layer.plugin != SEMANTIC_LAYER:
            continue
        for _, source in layer.sources():
            for kind in source.get("class_types", []):
                values = section(source, str(kind))
                for name in values.get("classes", []):
                    if name in GROUPS:
                        costs[GROUPS.index(name)] = translated(int(values["max_cost"]))
    return costs


def translated(cost: int) -> int:
    """Return what Nav2 publishes of a cost: 0, 1..98, 99 inscribed, 100 lethal."""
    return {0: 0, 253: 99, 254: 100}.get(cost, 1 + 97 * (cost - 1) // 251)


def stale_after(parameters: dict[str, Any]) -> float:
    """Return the seconds of silence that the strictest source allows."""
    rates = [
        float(source.get("expected_update_rate", 0.0))
        for layer in layers_of(parameters)
        if layer.plugin in OBSTACLE_LAYERS
        for _, source in layer.sources()
    ]
    return min((rate for rate in rates if rate > 0), default=0.0)


@contextmanager
def running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process until the end of the block."""
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def activate(node: Any, costmap: str) -> bool:
    """Configure and activate a lifecycle node; return whether it is active, and say why not."""
    client = node.create_client(ChangeState, f"{costmap}/change_state")
    try:
        if not client.wait_for_service(START_S):
            print(f"{costmap} does not answer: did it start?")
            return False
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            rclpy.spin_until_future_complete(node, future, timeout_sec=START_S / 2)
            if not future.done() or not future.result().success:
                print(f"{costmap} does not answer transition {transition}, or refuses it")
                return False
    finally:
        node.destroy_client(client)
    return True


def our_nodes(bag: Path, extra: list[str]) -> list[list[str]]:
    """Return the commands of segmentation_node, occupancy_node and the player of a bag."""
    python = [sys.executable, "-m"]
    topics = find_topics(bag)
    image = topics.image.removesuffix("/compressed")
    transport = "compressed" if topics.is_compressed else "raw"
    heard = ("label_mask", "confidence", "camera_info", "label_info")
    links = [w for n in heard for w in ("-r", f"{n}:=/segmentation_node/{n}")]
    return [
        [*python, "seg_perception.nodes.segmentation_node", "--ros-args", "-p", "model:=tiny",
         "-r", f"image:={image}", "-r", f"camera_info:={topics.camera_info}",
         "-p", f"image_transport:={transport}", *SIMULATED],
        [*python, "seg_perception.nodes.occupancy_node", "--ros-args", "-p", "model:=tiny",
         *links, *SIMULATED, *extra],
        [*python, "seg_perception.live.player_node", str(bag), "--rate", str(RATE)],
    ]  # fmt: skip


def start_in_order(check: Check, options: argparse.Namespace, *, nav2_first: bool) -> bool:
    """Start everything once, in one order; return whether the costmap lives and is updated."""
    bag, extra = options.play, shlex.split(options.occupancy_arguments)
    segmentation, occupancy, player = our_nodes(bag, extra)
    costmap = shlex.split(options.costmap_command.format(params=options.params))
    before = check.updates
    first, second = (costmap, occupancy) if nav2_first else (occupancy, costmap)
    with running(*segmentation), running(*player), running(*first) as one:
        is_active = nav2_first and activate(check.node, options.costmap)
        if not nav2_first:
            check.spin(3.0)
        with running(*second) as two:
            is_active = is_active or activate(check.node, options.costmap)
            check.spin(6.0 if is_active else 0.0)
            lives = (one if nav2_first else two).poll() is None
    return lives and check.updates > before


def watch_own(check: Check, options: argparse.Namespace, allowed: float) -> bool:
    """Play the bag, count, then kill segmentation_node and time the costmap's alarm."""
    segmentation, occupancy, player = our_nodes(
        options.play, shlex.split(options.occupancy_arguments)
    )
    costmap = shlex.split(options.costmap_command.format(params=options.params))
    with running(*segmentation) as node, running(*occupancy), running(*costmap):
        if not activate(check.node, options.costmap):
            print(f"{verdict(False)} the costmap does not start next to our nodes")
            return False
        with running(*player):
            check.spin(START_S, lambda: check.has_heard)
            check.spin(options.seconds)
            check.spin(options.seconds, check.has_counted_all)  # a busy machine sees less in a time
            check.silent_since, killed = None, time.monotonic()
            node.kill()
            check.spin((allowed + 2.0) / RATE)
    passes = check.report()
    if allowed:
        after = ((check.silent_since or float("inf")) - killed) * RATE
        is_good = after <= allowed + SLACK_S
        print(f"{verdict(is_good)} stale {after:.2f} s after segmentation_node died")
        passes &= is_good
    return passes


def main() -> int:
    """Check, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--costmap", default="/local_costmap/local_costmap", help="its node")
    parser.add_argument("--params", type=Path, default=ROOT / "config" / "nav2_costmap.yaml")
    parser.add_argument(
        "--seconds",
        type=float,
        default=8.0,
        help="to watch, up to twice as long where "
        "nothing of a kind is seen; with --play less than half of the bag",
    )
    parser.add_argument("--play", type=Path, metavar="BAG", help="start nodes and costmap, play it")
    parser.add_argument("--times", type=int, default=0, help="starts in each order, with --play")
    parser.add_argument(
        "--costmap-command",
        default="ros2 run nav2_costmap_2d nav2_costmap_2d --ros-args -r __ns:=/local_costmap "
        "-r __node:=local_costmap --params-file {params} -p use_sim_time:=true",
        help="with --play; {params} is replaced",
    )
    parser.add_argument(
        "--occupancy-arguments",
        default="-p pose_source:=parameters -p camera_z:=1.4 -p camera_pitch:=0.05",
        help="of occupancy_node, with --play",
    )
    parser.add_argument(
        "--camera", type=float, nargs=6, metavar=("X", "Y", "Z", "ROLL", "PITCH", "YAW"),
        help="where it is in the costmap's frame, where tf does not say",
    )  # fmt: skip
    options = parser.parse_args()
    nodes = read_nodes(options.params)
    name = options.costmap.strip("/")
    if name not in nodes or not is_costmap(name, nodes[name]):
        parser.error(f"{options.params} has no costmap {name}; it has {', '.join(nodes) or 'none'}")
    parameters = dict(nodes[name])
    rclpy.init()
    camera = Pose.from_rpy(*options.camera).compose(OPTICAL) if options.camera else None
    check = Check(rclpy.create_node("check_nav2"), options.costmap, parameters, camera)
    if options.play is None:
        check.spin(options.seconds)
        return 0 if check.report() else 1
    passes = watch_own(check, options, stale_after(parameters))
    for nav2_first in (False, True):
        lived = sum(start_in_order(check, options, nav2_first=nav2_first)
                    for _ in range(options.times))  # fmt: skip
        order = "Nav2 first" if nav2_first else "our nodes first"
        if options.times:
            print(f"{verdict(lived == options.times)} {order}: the costmap lived in "
                  f"{lived} of {options.times} starts")  # fmt: skip
        passes &= lived == options.times
    rclpy.try_shutdown()
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main())
