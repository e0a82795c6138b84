"""Where a network runs: one Protocol, one module a runtime."""

from typing import Any, Protocol

from numpy.typing import NDArray

from seg_perception.manifest import Manifest


class Runtime(Protocol):
    """A loaded network: `run` takes the input of `manifest.input` and returns its output array."""

    manifest: Manifest
    provider: str

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the chosen output for one input array; blocking, thread of the caller."""
        ...
