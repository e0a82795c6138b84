"""Topics and services of the nodes: the one table, which pages and live nodes are compared with.

A name with ~ is the node's own. With names in `cameras`, what is `per_camera` stands below each
camera's name: `<camera>/image`, `~/<camera>/label_mask`.
"""

from typing import NamedTuple

from seg_perception.nodes.grids import SHOWN

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
CLOUD, GRID = "sensor_msgs/msg/PointCloud2", "nav_msgs/msg/OccupancyGrid"
NAMES = "vision_msgs/msg/LabelInfo"

NEWEST = "newest alone, as `qos_reliability` says"
RELIABLE = "reliable"
BEST_EFFORT = "best effort"
LATCHED = "reliable, transient local"


class Topic(NamedTuple):
    """One topic; `when` tells why it may be missing."""

    name: str
    kind: str
    qos: str
    text: str
    when: str = ""
    per_camera: bool = True


class Interface(NamedTuple):
    """What a node hears, says and answers."""

    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    services: tuple[tuple[str, str, str], ...]  # name, type, meaning


WITH_VISION_MSGS = "with vision_msgs"
DIAGNOSTICS = Topic(
    "/diagnostics",
    "diagnostic_msgs/msg/DiagnosticArray",
    RELIABLE,
    "one status a camera, in every lifecycle state: state, counts, rate, ages, stage times, last "
    "error",
    per_camera=False,
)

SEGMENTATION = Interface(
    inputs=(
        Topic("image", IMAGE, NEWEST, "images", "`image_transport` raw"),
        Topic(
            "image/compressed",
            "sensor_msgs/msg/CompressedImage",
            NEWEST,
            "images, jpeg or png; its name is `image` as remapped, with `/compressed`",
            "`image_transport` compressed",
        ),
        Topic("camera_info", INFO, NEWEST, "calibration, passed on"),
    ),
    outputs=(
        Topic(
            "~/label_mask", IMAGE, RELIABLE,
            "mono8, the image's size, step == width: one id a pixel, 255 unknown",
        ),
        Topic(
            "~/confidence", IMAGE, RELIABLE,
            "mono8, the image's size: softmax of the winning class x 255, for models of kind "
            "probabilities or masks its score; computed when subscribed or `min_confidence` is "
            "above 0",
            "unless the model gives labels alone",
        ),
        Topic(
            "~/label_info", NAMES, LATCHED,
            "names of the ids, before the first mask, and again to each new subscriber: mask and "
            "confidence wait until it has them, at most 1 s",
            WITH_VISION_MSGS,
        ),
        Topic(
            "~/class_grid", IMAGE, RELIABLE,
            "32FC<K>, `grid_rows` x `grid_cols`: share of each id (channel) among all pixels "
            "of a cell of the image; computed when subscribed",
        ),
        Topic(
            "~/overlay", IMAGE, RELIABLE,
            "bgr8: class colours over the image, and a legend; computed when subscribed",
        ),
        Topic(
            "~/camera_info", INFO, RELIABLE,
            "the newest calibration with the mask's stamp, once one has come",
        ),
        DIAGNOSTICS,
    ),
    services=(("~/enable", "std_srvs/srv/SetBool", "false: ignore images; true: segment again"),),
)  # fmt: skip

OCCUPANCY = Interface(
    inputs=(
        Topic(
            "label_mask", IMAGE, NEWEST,
            "mono8 ids of `label_space`, 255 unknown; paired by stamp with what follows",
        ),
        Topic(
            "confidence", IMAGE, NEWEST,
            "mono8 of the mask's stamp and size: weighs what is seen; optional",
        ),
        Topic(
            "depth", IMAGE, NEWEST,
            "32FC1 (m) or 16UC1 (mm) along the optical z, registered to the mask: its stamp and "
            "size; optional",
        ),
        Topic("camera_info", INFO, NEWEST, "calibration of the mask's size and frame_id"),
        Topic(
            "label_info", NAMES, LATCHED,
            "confirms the names of the ids; a disagreement is refused", WITH_VISION_MSGS,
        ),
        Topic(
            "odom", "nav_msgs/msg/Odometry", BEST_EFFORT, "where the robot is",
            "poses from parameters", per_camera=False,
        ),
    ),
    outputs=(
        *(
            Topic(
                f"~/grid/{group}", GRID, LATCHED,
                f"share of a cell's evidence that is {group}, 0..100; -1 never seen, or too long "
                "ago",
                per_camera=False,
            )
            for group in SHOWN
        ),
        Topic(
            "~/grid/cost", GRID, LATCHED,
            "cost of the group that decides, `costs.<group>`, person over everything; -1 unknown",
            per_camera=False,
        ),
        Topic(
            "~/costmap/label_mask", IMAGE, RELIABLE,
            "mono8 group ids, reduced in size; this and the next two are a matched set of one "
            "stamp for Nav2's semantic layer",
        ),
        Topic("~/costmap/confidence", IMAGE, RELIABLE, "mono8; 255 where none comes in"),
        Topic(
            "~/costmap/points", CLOUD, RELIABLE,
            "organised x y z (float32, camera's frame), at most 320 kB: where each pixel is; "
            "a thing's have the point where it touches the ground, NaN where nothing is known",
        ),
        Topic(
            "~/costmap/label_info", NAMES, LATCHED,
            "names of the groups, before the first set, and again to each new subscriber: the set "
            "waits until it has them, at most 1 s",
            WITH_VISION_MSGS,
        ),
        Topic(
            "~/obstacles", CLOUD, RELIABLE,
            "contacts of groups with cost 100, raised to columns, in `base_frame`; empty when "
            "nothing is there, silent when input is",
        ),
        Topic(
            "~/clearing", CLOUD, RELIABLE, "ends of free rays, raised likewise, in `base_frame`"
        ),
        DIAGNOSTICS,
    ),
    services=(),
)  # fmt: skip

NODES = {"segmentation_node": SEGMENTATION, "occupancy_node": OCCUPANCY}
