"""The files of a bag as they come: without metadata.yaml, packed, or not finished by the recorder.

Nothing is written next to a bag; what must be unpacked or recovered goes to a temporary folder.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from seg_perception.bags.truncated_mcap import find_truncation
from seg_perception.errors import DataError

try:
    from compression import zstd
except ImportError:  # before Python 3.14; rosbags needs it too
    from backports import zstd

STORAGES = (".mcap", ".db3")
PACKED = ".zstd"
INFORMATION = "rosbag2_bagfile_information"  # the one key of metadata.yaml
PIECE = 1 << 16  # bytes that are unpacked at a time
# What SQLite keeps next to a database whose writer was killed.
UNFINISHED = ("-wal", "-journal")


class BagFiles(NamedTuple):
    """What is opened for a bag: its folder, or its files in the order of their names."""

    paths: tuple[Path, ...]
    damage: str = ""


def find_files(path: Path, temporary: Path) -> BagFiles:
    """Return what to open for a bag; files are unpacked into `temporary`.

    Raises DataError for a path that holds no bag, and where there is no room to unpack.
    """
    if not path.exists():
        raise DataError(f"no bag at {path}; give the folder that holds metadata.yaml, or a file")
    said: list[str] = []
    metadata = _metadata(path / "metadata.yaml")
    if metadata is not None:
        folder = _prepared_folder(path, metadata, temporary, said)
        return BagFiles((folder,), "; ".join([*said, *_cuts(sorted(folder.glob("*.mcap")))]))
    files = [path]
    if path.is_dir():  # the last file of a recorder that lost power may hold nothing
        found = sorted(_storage_files(path))
        said += [f"{file.name} is empty" for file in found if not file.stat().st_size]
        files = [file for file in found if file.stat().st_size]
    if not files:
        raise DataError(f"{path} holds no bag: neither metadata.yaml nor .mcap or .db3 files")
    paths = tuple(_prepared(file, temporary, said) for file in files)
    said += _cuts([p for p in paths if p.suffix == ".mcap"])
    return BagFiles(paths, "; ".join(said))


def is_bag(path: Path) -> bool:
    """Return whether a path is a file, or a folder that holds a recording."""
    return not path.is_dir() or (path / "metadata.yaml").exists() or any(_storage_files(path))


def unpack_message(data: bytes) -> bytes:
    """Return a message that its recorder packed by itself; a lone file does not tell of it."""
    # CDR begins with 0, and zstd with this.
    return zstd.decompress(data) if data[:4] == b"\x28\xb5\x2f\xfd" else data


def _metadata(file: Path) -> dict[str, Any] | None:
    """Return what metadata.yaml says; None where a power cut left none, or a part of it."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, yaml.YAMLError):
        return None
    has_all = isinstance(content, dict) and isinstance(content.get(INFORMATION), dict)
    return content if has_all else None


def _prepared_folder(
    folder: Path, metadata: dict[str, Any], temporary: Path, said: list[str]
) -> Path:
    """Return a folder that can be opened: the bag itself, where all its files can."""
    about = metadata[INFORMATION]
    files = [folder / PurePath(name).name for name in about.get("relative_file_paths") or ()]
    if not all(file.exists() for file in files) or not any(map(_needs_work, files)):
        return folder
    names = []
    for file in files:
        ready = _prepared(file, temporary, said)
        if ready.parent != temporary:
            ready = temporary / file.name
            ready.symlink_to(file.resolve())
        names.append(ready.name)
    about["relative_file_paths"] = names
    if about.get("compression_mode", "").lower() == "file":
        about |= {"compression_mode": "", "compression_format": ""}
    (temporary / "metadata.yaml").write_text(yaml.safe_dump(metadata), "utf-8")
    return temporary


def _storage_files(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        name = file.name.removesuffix(PACKED)
        # A file next to its packed form is what the recorder left of it.
        if name.endswith(STORAGES) and not (name != file.name and (folder / name).exists()):
            yield file


def _needs_work(file: Path) -> bool:
    return file.suffix == PACKED or bool(_logs(file))


def _logs(file: Path) -> list[Path]:
    """Return what SQLite has not yet taken into a database."""
    logs = [Path(f"{file}{end}") for end in UNFINISHED] if file.suffix == ".db3" else []
    return [log for log in logs if log.exists() and log.stat().st_size]


def _prepared(file: Path, temporary: Path, said: list[str]) -> Path:
    """Return a file that can be opened; `said` takes what is missing of it."""
    if file.suffix == PACKED:
        return _unpacked(file, temporary, said)
    return _recovered(file, temporary) if _logs(file) else file


def _unpacked(file: Path, temporary: Path, said: list[str]) -> Path:
    target = temporary / file.stem
    try:
        with file.open("rb") as packed:
            about = zstd.get_frame_info(packed.read(PIECE))
        # A pack need not tell how much it holds.
        _check_room(file, about.decompressed_size or file.stat().st_size, temporary)
        with zstd.open(file, "rb") as packed, target.open("wb") as whole:
            shutil.copyfileobj(packed, whole, PIECE)
    except EOFError:  # all but the last piece before the cut is written
        said.append(f"{file.name} is cut: its end is lost")
    except OSError as error:
        raise _no_room(file, temporary, error) from error
    except zstd.ZstdError as error:
        raise DataError(f"{file} is not packed with zstd: {error}; copy it again") from error
    return target


def _recovered(file: Path, temporary: Path) -> Path:
    """Return a copy of a database into which SQLite has taken what its killed writer left."""
    target, parts = temporary / file.name, [file, *_logs(file)]
    try:
        # Once for the copies, and once for what SQLite writes of the logs.
        _check_room(file, 2 * sum(part.stat().st_size for part in parts), temporary)
        for part in parts:
            shutil.copyfile(part, temporary / part.name)
        with closing(sqlite3.connect(target)) as database:
            database.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.DatabaseError as error:
        raise DataError(f"{file} is damaged: {error}; copy it again") from error
    except OSError as error:
        raise _no_room(file, temporary, error) from error
    return target


def _check_room(file: Path, needed: int, temporary: Path) -> None:
    free = shutil.disk_usage(temporary).free
    if needed > free:
        raise DataError(
            f"{file} needs {needed / 1e6:.1f} MB in {temporary.parent}, where {free / 1e6:.1f} MB "
            "are free; make room there, or set TMPDIR to another folder"
        )


def _no_room(file: Path, temporary: Path, error: OSError) -> DataError:
    return DataError(
        f"{file} cannot be unpacked into {temporary.parent}: {error.strerror or error}; make room "
        "there, or set TMPDIR to another folder"
    )


def _cuts(files: list[Path]) -> Iterator[str]:
    """Yield what is missing of mcap files that lost their end."""
    for file in files:
        cut = find_truncation(file)
        if cut is not None:
            lost = f"at least {cut.lost} bytes" if cut.lost else "its end"
            size = file.stat().st_size
            yield f"{file.name} is damaged: read up to byte {cut.end} of {size}, {lost} lost"
