"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_perception.errors import ModelError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path next to `path` to write to; when the block ends well it is renamed to `path`.

    Two writers of one file do not meet. Raises ModelError where `path` cannot be written, before
    the block runs as far as that can be known; whatever happens, nothing half written stays.
    """
    check_output(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written: {error.strerror or error}; choose another place with --out"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_output(
    path: Path, *, kinds: tuple[str, ...] = (), sources: tuple[Path, ...] = ()
) -> None:
    """Raise ModelError where `path` cannot be written, changing nothing.

    Its name must end in one of `kinds`, and it must be none of the `sources` that it is made of.
    """
    if kinds and path.suffix not in kinds:
        raise ModelError(
            f"{path} is neither a {' nor a '.join(kinds)} file; name the output so"
            if len(kinds) > 1
            else f"{path} is no {kinds[0]} file; name the output OUT{kinds[0]}"
        )
    if os.path.isdir(path):
        raise ModelError(f"{path} is a folder; name a file in it")
    if any(path.resolve() == source.resolve() for source in sources):
        raise ModelError(f"{path} is what would be read; give the output another name")
    folder = next(p for p in path.absolute().parents if os.path.exists(p))
    if not os.path.isdir(folder):
        raise ModelError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ModelError(f"{path} cannot be written: {folder} is not writable for you")
