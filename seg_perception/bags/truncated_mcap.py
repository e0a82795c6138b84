"""Views of mcap files that lost their end, as readers want them: whole records, then a footer."""

import io
import os
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"\x89MCAP0\r\n"
FOOTER = 0x02
RECORDS = range(0x01, 0x10)  # opcodes of the format; 0x80 and above are private
# A footer that names no summary: readers then scan the records. Source: mcap.dev/spec.
TAIL = bytes([FOOTER]) + (20).to_bytes(8, "little") + bytes(20) + MAGIC


class Truncation(NamedTuple):
    """Where the whole records of a file end, and how many bytes at least are lost behind."""

    end: int
    lost: int


def find_truncation(path: Path) -> Truncation | None:
    """Return where an mcap file is damaged, None when its records reach the closing footer."""
    size = path.stat().st_size
    at = len(MAGIC)
    with path.open("rb") as file:
        while True:
            file.seek(at)
            head = file.read(9)
            if len(head) < 9:
                return Truncation(at, 9 - len(head) if head else 0)
            following = at + 9 + int.from_bytes(head[1:], "little")
            if head[0] not in RECORDS and head[0] < 0x80:
                return Truncation(at, size - at)
            if head[0] == FOOTER:
                lost = following + len(MAGIC) - size
                return Truncation(at, lost) if lost > 0 else None
            if following > size:
                return Truncation(at, following - size)
            at = following


class RecoveredPath:
    """A bag's folder or file whose mcap files read up to their damage; nothing is written."""

    def __init__(self, path: Path) -> None:
        """Wrap `path`."""
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def __truediv__(self, key: "RecoveredPath | PurePath | str") -> "RecoveredPath":
        return RecoveredPath(self._path / str(key))

    @property
    def stem(self) -> str:
        """As of a Path."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """As of a Path."""
        return self._path.suffix

    def exists(self) -> bool:
        """As of a Path."""
        return self._path.exists()

    def is_dir(self) -> bool:
        """As of a Path."""
        return self._path.is_dir()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As of a Path."""
        return self._path.stat(follow_symlinks=follow_symlinks)

    def read_text(self, encoding: str | None = None) -> str:
        """As of a Path."""
        return self._path.read_text(encoding)

    def open(self, *_: Any, **__: Any) -> BinaryIO:
        """Open for reading; a cut mcap file ends with a footer where its whole records do."""
        cut = find_truncation(self._path) if self.suffix == ".mcap" else None
        file = self._path.open("rb")
        return file if cut is None else io.BufferedReader(_Mended(file, cut.end))


class _Mended(io.RawIOBase):
    """The first `end` bytes of a file, and TAIL."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self._end, self._at = file, end, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end + len(TAIL)}
        self._at = max(0, start[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._at < self._end:
            self._file.seek(self._at)
            data = self._file.read(min(len(view), self._end - self._at))
        else:
            data = TAIL[self._at - self._end :][: len(view)]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
