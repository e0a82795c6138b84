"""What a running ROS graph means for the nodes; knows no ROS, judges what was observed."""

from collections.abc import Iterator

from seg_perception.doctor import cameras
from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.doctor.observation import LinkSeen, NodeSeen, Observation
from seg_perception.qos import REMEDIES, mismatch

LEVELS = {1: warning, 2: error}  # of diagnostics


def check(seen: Observation) -> Iterator[Finding]:
    """Judge a graph."""
    yield ok("graph", f"{seen.rmw}, listened for {seen.seconds:g} s")
    if not seen.cameras:
        yield note(
            "cameras",
            "no topic of images is published",
            "there is nothing to segment, or it is not discovered from here",
            "start the camera in the same ROS_DOMAIN_ID, or name its topic with --topic",
        )
    spare = _spare(seen)
    for camera in seen.cameras:
        for finding in cameras.check(camera):
            is_harmless = finding.level == "error" and camera.topic in spare
            yield finding._replace(level="warning") if is_harmless else finding
    if seen.cameras:
        yield from check_transforms(seen)
    if not seen.nodes:
        yield note(
            "nodes",
            "neither segmentation_node nor occupancy_node runs here",
            "what follows from their parameters was not checked",
            "ros2 launch seg_perception robot.launch.py",
        )
    for node in seen.nodes:
        yield from check_node(node, seen.seconds)
        yield from check_sim_time(node, seen)
    for link in seen.links:
        yield from check_link(link, _own(seen))


def _own(seen: Observation) -> set[str]:
    """Return our nodes as ends of topics name them."""
    return {node.name.lstrip("/") for node in seen.nodes}


def _spare(seen: Observation) -> set[str]:
    """Return the topics that nobody named, and that our nodes leave for others that they hear."""
    own = _own(seen)
    wanted = [k.topic for k in seen.links if any(s.node in own for s in k.subscribers)]
    found = {camera.topic for camera in seen.cameras}
    heard = {t for t in found if any(w == t or w.startswith(f"{t}/") for w in wanted)}
    return found - heard if heard and not seen.are_named else set()


def check_node(node: NodeSeen, seconds: float) -> Iterator[Finding]:
    """Repeat what a node's newest diagnostics say."""
    if not node.statuses:
        yield error(
            "nodes",
            f"{node.name} said nothing on /diagnostics for {seconds:g} s",
            "it hangs, or its diagnostics_period is longer",
            "look at its log, and start it again",
        )
    for status in node.statuses:
        space = node.name.rpartition("/")[0].lstrip("/")  # of which a status says nothing
        found = f"{space and f'{space}/'}{status.name}: {status.state}, {status.message}"
        level = LEVELS.get(status.level)
        if level is not None:
            yield level("nodes", found, f"{node.name} says so itself", "follow its message")
        elif status.state != "active":
            yield warning(
                "nodes", found, "it publishes nothing in this state",
                f"ros2 lifecycle set {node.name} activate (after configure), or autostart:=true",
            )  # fmt: skip
        else:
            yield ok("nodes", found)


def check_sim_time(node: NodeSeen, seen: Observation) -> Iterator[Finding]:
    """Compare a node's use_sim_time with who publishes /clock."""
    if node.use_sim_time is None:
        yield warning(
            "clock", f"{node.name} did not say its parameters", "its services do not answer",
            "look at its log, and start it again",
        )  # fmt: skip
    elif node.use_sim_time and not seen.ticks:
        silent = f"{', '.join(seen.clock_publishers)} is silent on /clock"
        yield error(
            "clock",
            f"{node.name} has use_sim_time true, and "
            + (silent if seen.clock_publishers else "nobody publishes /clock"),
            "its clock stands at 0: ages and tf are wrong",
            "play the bag with --clock, or set use_sim_time to false",
        )
    elif not node.use_sim_time and seen.ticks:
        yield warning(
            "clock",
            f"{node.name} has use_sim_time false, and {', '.join(seen.clock_publishers)} "
            "publishes /clock",
            "images of a bag or a simulator look years old to it",
            "start it with use_sim_time:=true",
        )
    else:
        yield ok("clock", f"{node.name} goes by {'/clock' if seen.ticks else 'the system clock'}")


def check_link(link: LinkSeen, own: set[str]) -> Iterator[Finding]:
    """Find subscribers that get nothing of a publisher; ours, by name, are errors."""
    for offered in link.publishers:
        for wanted in link.subscribers:
            found = mismatch(link.topic, offered, wanted)
            if found is not None:
                yield (error if wanted.node in own else warning)(
                    "qos",
                    f"{found.text} by {wanted.node}",
                    f"{wanted.node} gets nothing of {offered.node}",
                    REMEDIES[found.policy],
                )


def check_transforms(seen: Observation) -> Iterator[Finding]:
    """Ask whether tf places the cameras."""
    if not seen.has_tf:
        yield note(
            "tf",
            "tf2_ros is not installed",
            "occupancy_node takes the camera's place from camera_x ... camera_yaw",
            "sudo apt install ros-$ROS_DISTRO-tf2-ros, where there is tf",
        )
        return
    for transform in seen.transforms:
        what = f"{transform.parent} -> {transform.child}"
        if transform.failure:
            yield warning(
                "tf",
                f"{what}: {transform.failure}",
                "occupancy_node cannot place what this camera sees",
                "publish the transform (robot_state_publisher), set base_frame to the robot's "
                "frame, or set pose_source to parameters",
            )
        else:
            yield ok("tf", what)
