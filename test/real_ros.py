"""Build what ROS has and PyPI has not, so that the tests that need it do not skip.

python test/real_ros.py SOURCES OUT

SOURCES holds checkouts by their repositories' names: geometry2, vision_msgs, rcl_interfaces, and
launch and launch_ros, which run as they are. Needs a C++ compiler, the ROS wheels of this
environment, and `pip install catkin-pkg 'empy<4' lark osrf-pycommon`. Takes a minute or a few, and
prints at last what to export before pytest.
"""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PREFIX = Path(sys.prefix)
SITE = Path(sysconfig.get_paths()["purelib"])
SHARE = str(PREFIX / "share")
# Each generator's command, in the order in which its library is linked; then what links to nothing.
GENERATORS = {
    "rosidl_generator_c": "GenerateC",
    "rosidl_typesupport_fastrtps_c": "GenerateFastRTPSCTypesupport",
    "rosidl_typesupport_fastrtps_cpp": "GenerateFastRTPSCppTypesupport",
    "rosidl_typesupport_introspection_c": "GenerateIntrospectionCTypesupport",
    "rosidl_typesupport_introspection_cpp": "GenerateIntrospectionCppTypesupport",
    "rosidl_typesupport_c": "GenerateCTypesupport",
    "rosidl_generator_cpp": "GenerateCpp",
    "rosidl_generator_py": "GeneratePython",
}
LINKED = list(GENERATORS)[:6]
RUNTIME = ["rosidl_runtime_c", "rcutils", "rcpputils", "rmw", "fastcdr", *LINKED[1:]]
TRANSLATORS = {
    ".msg": "TranslateMsgToIDL",
    ".srv": "TranslateSrvToIDL",
    ".action": "TranslateActionToIDL",
}
PACKAGES = {
    "composition_interfaces": "rcl_interfaces/composition_interfaces",
    "tf2_msgs": "geometry2/tf2_msgs",
    "vision_msgs": "vision_msgs/vision_msgs",
}
USED = ["action_msgs", "unique_identifier_msgs", "service_msgs", "rcl_interfaces", "geometry_msgs",
        "std_msgs", "builtin_interfaces"]  # fmt: skip


class Build:
    """What is generated in and linked to one folder."""

    def __init__(self, sources: Path, out: Path) -> None:
        self._sources, self._out = sources.resolve(), out.resolve()
        self._generated, self._libraries = self._out / "generated", self._out / "lib"
        self.python = self._libraries / "python"

    def messages(self, package: str, folder: str) -> None:
        """Make the C, C++ and Python types of a package of messages."""
        self._generate(package, self._sources / folder)
        includes, made = [self._generated / kind for kind in GENERATORS], list[str]()
        for kind in LINKED:
            files = self._files(kind, package, (".c", ".cpp"))
            used = [f"{name}__{k}" for name in USED for k in {"rosidl_generator_c", kind}]
            target = self._libraries / f"lib{package}__{kind}.so"
            self._link(files, target, [*made, *used, *RUNTIME], includes)
            made.insert(0, f"{package}__{kind}")
        converters = self._files("rosidl_generator_py", package, ("_s.c",))
        used = [f"{name}__rosidl_generator_{k}" for name in USED for k in ("c", "py")]
        name = f"{package}__rosidl_generator_py"
        self._link(
            converters, self._libraries / f"lib{name}.so", [*made, *used, *RUNTIME], includes
        )
        here = self.python / package
        shutil.copytree(self._generated / "rosidl_generator_py" / package, here, dirs_exist_ok=True)
        (here / "__init__.py").touch()
        for entry in here.glob("*.ep.*.c"):
            target = here / f"{package}_s__{entry.name.split('.')[2]}.so"
            self._link([entry], target, [name, *made, "rosidl_runtime_c"], includes)

    def tf2(self) -> None:
        """Make tf2, its binding and its Python package."""
        folder = self._sources / "geometry2"
        includes = [folder / "tf2" / "include"]
        used = ["rcutils", "geometry_msgs__rosidl_typesupport_cpp"]
        core = sorted((folder / "tf2" / "src").glob("*.cpp"))
        self._link(core, self._libraries / "libtf2.so", used, includes)
        binding = folder / "tf2_py" / "src" / "tf2_py.cpp"
        self._link([binding], self.python / "tf2_py" / "_tf2_py.so", ["tf2"], includes)
        for package in ("tf2_py/tf2_py", "tf2_ros_py/tf2_ros"):
            here = self.python / Path(package).name
            shutil.copytree(folder / package, here, dirs_exist_ok=True)

    def mark(self, package: str) -> None:
        """Let ament find a package."""
        index = self._out / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()

    def environment(self) -> str:
        """Return the lines that make Python find it all."""
        launch = (
            "launch/launch",
            "launch/launch_xml",
            "launch/launch_yaml",
            "launch_ros/launch_ros",
        )
        paths = [self.python, *(self._sources / name for name in launch)]
        return "\n".join(
            [
                "export PYTHONPATH=$PWD:" + ":".join(map(str, paths)),
                f"export LD_LIBRARY_PATH={self._libraries}",
                f"export AMENT_PREFIX_PATH={self._out}:{PREFIX}",
            ]
        )

    def _generate(self, package: str, folder: Path) -> None:
        idl, files = self._generated / "idl" / package, []
        for suffix, name in TRANSLATORS.items():
            found = sorted(p.relative_to(folder) for p in folder.glob(f"*/*{suffix}"))
            given = [f"{folder}:{path}" for path in found if path.parts[0] == suffix[1:]]
            files += command("rosidl_adapter", name).translate(package, given, [SHARE], idl)
        hashes = command("rosidl_generator_type_description", "HashTypeDescription")
        include = [SHARE, str(self._generated / "idl")]
        described = hashes.generate_type_hashes(package, files, include, idl)
        for kind, name in GENERATORS.items():
            takes = kind in ("rosidl_generator_c", "rosidl_generator_cpp")
            more = {"type_description_files": described} if takes else {}
            out = self._generated / kind / package
            command(kind, name).generate(package, files, [SHARE], output_path=out, **more)

    def _files(self, kind: str, package: str, ends: tuple[str, ...]) -> list[Path]:
        files = (self._generated / kind / package).rglob("*")
        return sorted(f for f in files if f.name.endswith(ends))

    def _link(
        self, files: Iterable[Path], target: Path, libraries: list[str], includes: list[Path]
    ) -> None:
        objects = self._out / "objects" / target.name
        for folder in (objects, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        include = [f"-I{p}" for p in (*includes, *headers())]

        def compile_one(numbered: tuple[int, Path]) -> Path:
            number, file = numbered
            made = objects / f"{number}.o"
            tool = ["gcc", "-std=gnu11"] if file.suffix == ".c" else ["g++", "-std=c++17"]
            run(*tool, "-O2", "-fPIC", "-w", *include, "-c", file, "-o", made)
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(compile_one, enumerate(files)))
        places = [self._libraries, PREFIX / "lib"]
        beside = [PREFIX / "lib", *SITE.glob("ros_*.libs")]
        run("g++", "-shared", "-o", target, *made, *(f"-L{p}" for p in places),
            *(f"-l{n}" for n in libraries), *(f"-Wl,-rpath-link,{p}" for p in beside))  # fmt: skip


def headers() -> list[Any]:
    """Return the folders of headers of ROS, Python and numpy."""
    import numpy as np

    ros = PREFIX / "include"
    return [*ros.glob("*"), ros, sysconfig.get_paths()["include"], np.get_include()]


def command(package: str, name: str) -> Any:
    """Return an extension of the rosidl command."""
    return getattr(importlib.import_module(f"{package}.cli"), name)("")


def run(*words: Any) -> None:
    subprocess.run([str(word) for word in words], check=True)


def main(sources: str, out: str) -> None:
    """Build all, and print the environment."""
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    build = Build(Path(sources), Path(out))
    for package, folder in PACKAGES.items():
        build.messages(package, folder)
        build.mark(package)
    build.tf2()
    for package in ("tf2_py", "tf2_ros"):
        build.mark(package)
    print(build.environment())


if __name__ == "__main__":
    main(*sys.argv[1:])
