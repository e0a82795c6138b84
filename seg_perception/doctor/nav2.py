"""Nav2's parameters: which of the traps of docs/nav2.md are sprung in a costmap or monitor.

Knows no ROS: parameters are nested dicts, as a YAML file or a parameter server gives them. Defaults
are those that Nav2's layers declare (obstacle_layer.cpp, static_layer.cpp, costmap_2d_ros.cpp,
collision_monitor's pointcloud.cpp, and semantic_segmentation_layer.cpp of kiwicampus).
"""

from collections.abc import Iterator, Mapping

from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.labels import GROUPS
from seg_perception.nav2.parameters import (
    OBSTACLE_LAYERS,
    SEMANTIC_LAYER,
    SOURCE,
    STATIC_LAYER,
    Layer,
    Parameters,
    is_ours,
    layers_of,
    section,
)
from seg_perception.occupancy.parameters import OccupancyParameters

OURS = OccupancyParameters()
SLOWEST_STOP_S = 2.0  # of silence, after which a robot has gone far


def check_costmap(name: str, parameters: Parameters) -> Iterator[Finding]:
    """Judge the parameters of a costmap node."""
    layers = layers_of(parameters)
    yield from _check_plugins(name, parameters)
    found = [
        *_check_obstacles(name, layers),
        *_check_semantic(name, layers),
        *_check_static(name, parameters, layers),
    ]
    if not any(layer.reads_ours() for layer in layers):
        yield error(
            name, "no layer reads occupancy_node",
            "the costmap knows nothing of what the cameras see",
            "merge config/nav2_costmap.yaml into its parameters (docs/nav2.md, step 4)",
        )  # fmt: skip
    elif not any(_marks(layer) for layer in layers):
        yield warning(
            name, "no ObstacleLayer reads ~/obstacles",
            "dead perception stops nothing: the other layers have no timeout",
            "add perceived_obstacles of config/nav2_costmap.yaml next to them",
        )  # fmt: skip
    if not parameters.get("track_unknown_space", False):
        yield note(
            name, "track_unknown_space is false", "what was never seen counts as free",
            "true keeps it apart; then the planner must know how to drive through unknown",
        )  # fmt: skip
    yield from found or [ok(name, f"{len(layers)} layers, none of the traps is sprung")]


def check_monitor(name: str, parameters: Parameters) -> Iterator[Finding]:
    """Judge the parameters of a collision monitor."""
    sources = parameters.get("observation_sources", [])
    ours = [s for s in sources if is_ours(section(parameters, s).get("topic"))]
    if not ours:
        yield warning(
            name, "no source reads ~/obstacles of occupancy_node",
            "recoveries ask no costmap whether it is current: nothing stops them",
            "add `perceived` of config/nav2_costmap.yaml to observation_sources",
        )  # fmt: skip
    for source in ours:
        values = section(parameters, source)
        where = f"{source}.type is {values.get('type', 'scan')!r}"
        if values.get("type", "scan") != "pointcloud":
            yield error(name, where, "the cloud is not read", f'{source}.type: "pointcloud"')
        if float(values.get("max_height", 0.5)) < OURS.column_low:
            yield error(
                name, f"{source}.max_height is {values.get('max_height', 0.5)}",
                f"columns begin at {OURS.column_low:g} m: all of them are dropped",
                f"{source}.max_height: 2.0",
            )  # fmt: skip
        timeout = float(values.get("source_timeout", parameters.get("source_timeout", 2.0)))
        if timeout == 0:
            yield error(
                name, f"{source}.source_timeout is 0", "silence never stops the robot",
                f"{source}.source_timeout: 1.0",
            )  # fmt: skip
    if ours:
        yield ok(name, f"reads {', '.join(ours)}")


def titled(finding: Finding) -> Finding:
    """Return a finding of a node under one title, the node's name before what was found."""
    return finding._replace(check="nav2", found=f"{finding.check}: {finding.found}")


def _check_plugins(name: str, parameters: Parameters) -> Iterator[Finding]:
    loaded = [str(plugin) for plugin in parameters.get("plugins", [])]
    for layer in loaded:
        if not section(parameters, layer).get("plugin"):
            yield error(
                name, f"plugins names {layer!r}, and there is no {layer}.plugin",
                "the costmap does not start", f"give {layer} a section with its plugin",
            )  # fmt: skip
    for layer, values in parameters.items():
        is_spare = isinstance(values, Mapping) and layer not in loaded and "plugin" in values
        if is_spare and Layer(layer, "", values).reads_ours():
            stops = values["plugin"] in OBSTACLE_LAYERS
            yield (error if stops else note)(
                name, f"{layer} is configured and not in plugins", "it is never loaded",
                f"plugins: [..., {layer}, ...]",
            )  # fmt: skip


def _marks(layer: Layer) -> bool:
    return layer.plugin in OBSTACLE_LAYERS and any(
        is_ours(s.get("topic")) and s.get("marking", True) for _, s in layer.sources()
    )


def _check_obstacles(name: str, layers: list[Layer]) -> Iterator[Finding]:
    for layer in (x for x in layers if x.plugin in OBSTACLE_LAYERS and x.reads_ours()):
        ours = {n: {**SOURCE, **s} for n, s in layer.sources() if is_ours(s.get("topic"))}
        for source, values in ours.items():
            yield from _check_source(name, f"{layer.name}.{source}", values)
        if not any(values["clearing"] for values in ours.values()):
            yield warning(
                name, f"{layer.name} has no source that clears",
                "a mark stays for ever after the thing has gone",
                "add the source `clearing` of config/nav2_costmap.yaml",
            )  # fmt: skip
        top = float(layer.parameters.get("max_obstacle_height", 2.0))
        if top < OURS.column_low:
            yield error(
                name, f"{layer.name}.max_obstacle_height is {top:g}",
                f"columns begin at {OURS.column_low:g} m: none is marked",
                f"{layer.name}.max_obstacle_height: 2.0",
            )  # fmt: skip


def _check_source(name: str, where: str, values: Parameters) -> Iterator[Finding]:
    """Judge one source of an ObstacleLayer that reads a cloud of ours."""
    if values["data_type"] != "PointCloud2":
        yield error(
            name, f"{where}.data_type is {values['data_type']!r}", "the cloud is not read",
            f'{where}.data_type: "PointCloud2"',
        )  # fmt: skip
    if float(values["max_obstacle_height"]) < OURS.column_low:
        yield error(
            name, f"{where}.max_obstacle_height is {values['max_obstacle_height']:g}",
            "its buffer drops every point above: all of ours",
            f"{where}.max_obstacle_height: 2.0",
        )  # fmt: skip
    clears = str(values.get("topic", "")).endswith("/clearing")
    if bool(values["marking"]) == clears or bool(values["clearing"]) != clears:
        yield error(
            name, f"{where} has marking {values['marking']} and clearing {values['clearing']}",
            "free ground would become an obstacle" if clears else "rays to things clear them",
            f"{where}.marking: {str(not clears).lower()}, clearing: {str(clears).lower()}",
        )  # fmt: skip
    rate = float(values["expected_update_rate"])
    if rate == 0 or rate > SLOWEST_STOP_S:
        yield warning(
            name, f"{where}.expected_update_rate is {rate:g} s",
            "dead perception never stops the robot" if rate == 0 else "the stop comes late",
            f"{where}.expected_update_rate: 0.5 (three periods of the cloud)",
        )  # fmt: skip
    reach = "raytrace_max_range" if clears else "obstacle_max_range"
    if float(values[reach]) < OURS.max_range:
        yield warning(
            name, f"{where}.{reach} is {values[reach]:g} m",
            f"what lies farther is left out, and the map reaches {OURS.max_range:g} m",
            f"{where}.{reach}: {OURS.max_range + 1:g}",
        )  # fmt: skip
    if clears and not values["sensor_frame"]:
        yield warning(
            name, f"{where} has no sensor_frame",
            "rays start at base_frame, and clear past the edges of things",
            f"{where}.sensor_frame: the camera's optical frame",
        )  # fmt: skip
    if clears and float(values["raytrace_min_range"]) == 0:
        yield note(
            name, f"{where}.raytrace_min_range is 0",
            "rays clear what has passed below the image",
            "the distance of the nearest ground that the camera sees (docs/nav2.md)",
        )  # fmt: skip


def _check_semantic(name: str, layers: list[Layer]) -> Iterator[Finding]:
    for layer in (x for x in layers if x.plugin == SEMANTIC_LAYER and x.reads_ours()):
        if layer.parameters.get("use_approximate_time_sync", True):
            yield warning(
                name, f"{layer.name}.use_approximate_time_sync is true",
                "each set waits for the next one, and up to 1000 are kept",
                f"{layer.name}.use_approximate_time_sync: false",
            )  # fmt: skip
        for source, values in layer.sources():
            yield from _check_classes(name, f"{layer.name}.{source}", values)


def _check_classes(name: str, where: str, values: Parameters) -> Iterator[Finding]:
    kinds = [str(kind) for kind in values.get("class_types", [])]
    for kind in (k for k in kinds if not section(values, k).get("classes")):
        yield error(
            name, f"{where}.class_types names {kind!r}, which has no classes",
            "the layer does not start", f"{where}.{kind}.classes: [...]",
        )  # fmt: skip
    listed = [str(c) for kind in kinds for c in section(values, kind).get("classes", [])]
    missing = [group for group in GROUPS if group not in listed]
    if missing:
        yield error(
            name, f"{where} has no type for {', '.join(missing)}",
            'the layer logs "CRITICAL ERROR" and ignores these pixels',
            "list them in the classes of a type (sky too)",
        )  # fmt: skip
    strange = sorted(set(listed) - set(GROUPS))
    if strange:
        yield warning(
            name, f"{where} lists {', '.join(strange)}", "no group has this name: it never comes",
            f"use {', '.join(GROUPS)}",
        )  # fmt: skip
    twice = sorted({c for c in listed if listed.count(c) > 1})
    if twice:
        yield warning(
            name, f"{where} lists {', '.join(twice)} in several types", "the last one counts",
            "keep one",
        )  # fmt: skip


def _check_static(name: str, parameters: Parameters, layers: list[Layer]) -> Iterator[Finding]:
    for at, layer in enumerate(layers):
        if layer.plugin != STATIC_LAYER or not layer.reads_ours():
            continue
        if parameters.get("trinary_costmap", True):
            yield error(
                name, "trinary_costmap is true", "every cost from 1 to 99 becomes free",
                "trinary_costmap: false",
            )  # fmt: skip
        if not layer.parameters.get("map_subscribe_transient_local", True):
            yield warning(
                name, f"{layer.name}.map_subscribe_transient_local is false",
                "the latched grid does not come",
                f"{layer.name}.map_subscribe_transient_local: true",
            )  # fmt: skip
        if at:
            yield warning(
                name, f"{layer.name} comes after {layers[at - 1].name}",
                "it overwrites what stands before it", f"plugins: [{layer.name}, ...]",
            )  # fmt: skip
