"""What one camera's images mean for the nodes."""

from collections.abc import Iterator

from seg_perception.clocks import LIMIT
from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.doctor.observation import CameraSeen
from seg_perception.messages import DEPTHS

SLOP = 1.0  # seconds between stamp and clock, from which occupancy_node skips by default
SHARE = 0.95  # of the images that should arrive


def check(camera: CameraSeen) -> Iterator[Finding]:
    """Judge one topic of images."""
    if not camera.publishers:
        yield error(
            "camera", f"nobody publishes {camera.topic}", "no image can come",
            "start the camera, correct the topic's name, or set the same ROS_DOMAIN_ID",
        )  # fmt: skip
        return
    yield check_arrival(camera)
    if not camera.received:
        return
    if camera.encoding in DEPTHS:
        yield ok("camera", f"{camera.topic} holds depth, {camera.encoding}")
        return
    yield check_encoding(camera)
    yield check_stamps(camera)
    if not camera.frame_id:
        yield warning(
            "camera", f"{camera.topic} has an empty frame_id", "tf cannot place its images",
            "set frame_id in the camera's driver, or camera_frame of occupancy_node",
        )  # fmt: skip
    yield check_info(camera)


def check_arrival(camera: CameraSeen) -> Finding:
    """Compare the images that came with those that were sent."""
    policies = ", ".join(sorted({p.reliability.replace("_", " ") for p in camera.publishers}))
    offer = f"{camera.topic} ({policies})"
    lost = "images are lost on the way: the Fast DDS profile, shared memory or network buffers"
    do = "follow profile, shared memory and sockets above, on both ends"
    if camera.received < 2:  # one alone tells neither rate nor loss
        kinds = {p.kind for p in camera.publishers}
        if camera.kind not in kinds:
            return error(
                "camera", f"{offer} is {', '.join(kinds)}", f"{camera.kind} is expected there",
                "name the right topic",
            )  # fmt: skip
        return error(
            "camera",
            f"{offer}: {camera.received or 'no'} image in {camera.seconds:g} s",
            f"the camera sends (almost) nothing, or {lost}",
            f"{do}; listen longer to a slow camera, with --seconds",
        )
    rate = (camera.received - 1) / camera.span if camera.span > 0 else 0.0
    found = f"{offer}: {rate:.1f} Hz, {camera.width}x{camera.height} {camera.encoding}"
    if camera.sent is not None and camera.received < SHARE * camera.sent:
        found += f", {camera.received} of {camera.sent} arrived"
        level = error if camera.received < camera.sent / 2 else warning
        return level("camera", found, lost, do)
    return ok("camera", found)


def check_encoding(camera: CameraSeen) -> Finding:
    """Repeat what the decoder says of the newest image."""
    if camera.unreadable:
        return error(
            "encoding", f"{camera.topic}: {camera.unreadable}",
            "segmentation_node counts every such image as unreadable",
            "follow the message; docs/segmentation_node.md lists the encodings",
        )  # fmt: skip
    return ok("encoding", f"{camera.topic}: {camera.encoding} can be read")


def check_stamps(camera: CameraSeen) -> Finding:
    """Compare the newest stamp with the system's clock, and with /clock where there is one."""
    if not camera.stamp:
        return error(
            "stamps", f"{camera.topic} is stamped 0", "ages are unknown, and tf cannot be asked",
            "set the stamp in the camera's driver",
        )  # fmt: skip
    late = camera.arrived - camera.stamp
    if abs(late) <= SLOP:
        return ok("stamps", f"{camera.topic} is {1000 * late:.0f} ms old when it arrives")
    found = f"{camera.topic} is stamped {camera.stamp:.3f} s, {late:.3f} s before it arrives"
    if camera.simulated is not None and abs(camera.simulated - camera.stamp) <= SLOP:
        return note("stamps", f"{camera.topic} is stamped by /clock",
                    "nodes need use_sim_time")  # fmt: skip
    return (error if abs(late) > LIMIT else warning)(
        "stamps",
        found,
        "occupancy_node skips masks older than max_age (1 s unless set), and tf has no such time",
        "play a bag with --clock and nodes with use_sim_time:=true; for a camera set its "
        "computer's clock (NTP or PTP)",
    )


def check_info(camera: CameraSeen) -> Finding:
    """Ask for the calibration that maps need."""
    info, topic = camera.info, camera.info_topic
    means = "occupancy_node maps nothing without it; labels do not need it"
    if info is None:
        silent = f"no message on {topic}" if camera.info_publishers else f"nobody publishes {topic}"
        return warning("camera_info", silent, means, "start the camera with its calibration")
    if not info.fx > 0:
        return error(
            "camera_info",
            f"{topic} has K[0] = {info.fx:g}: the camera is not calibrated",
            "occupancy_node cannot tell where its pixels look, and refuses",
            "calibrate it (ros2 run camera_calibration cameracalibrator) and give its driver the "
            "file",
        )
    if (info.width, info.height) != (camera.width, camera.height) or (
        info.frame_id != camera.frame_id
    ):
        return warning(
            "camera_info",
            f"{topic} is of {info.width}x{info.height} in {info.frame_id!r}, the image of "
            f"{camera.width}x{camera.height} in {camera.frame_id!r}",
            "occupancy_node refuses the pair",
            "let the driver publish both of one camera and one size",
        )
    return ok("camera_info", f"{topic}: fx {info.fx:.1f} px, {info.width}x{info.height}")
