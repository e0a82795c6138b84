"""Which network is evaluated, and how it runs: MODEL[,key=value...] of the command line."""

from dataclasses import dataclass, fields

from seg_perception import input_sizes, key_values
from seg_perception.errors import ModelError, UsageError
from seg_perception.segmenter import Segmenter


@dataclass(frozen=True)
class ModelSetting:
    """A model file or name with what Segmenter.load takes; plain values that travel."""

    model: str
    provider: str = "cpu"
    threads: int = 1
    precision: str = "fp32"
    mode: str = "fast"
    input_size: str = input_sizes.AUTO
    min_confidence: float = 0.0

    @classmethod
    def parse(cls, text: str, *, provider: str = "cpu", threads: int = 1) -> "ModelSetting":
        """Read `tiny` or `tiny,threads=2,min_confidence=0.4`; UsageError names what is wrong."""
        model, values = key_values.parse(text, cls, of="a model", form="MODEL")
        values = {"provider": provider, "threads": threads, **values}
        return cls(model, **values)._checked(text)

    def load(self) -> Segmenter:
        """Load the network; raises what Segmenter.load raises."""
        segmenter = Segmenter.load(
            self.model,
            provider=self.provider,
            threads=self.threads,
            precision=self.precision,
            mode=self.mode,
            input_size=self.input_size,
        )
        segmenter.check_min_confidence(self.min_confidence)
        return segmenter

    @property
    def title(self) -> str:
        """Return the shortest text that `parse` would read as this."""
        plain = ModelSetting(self.model)
        changed = (f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name))
        return ",".join([self.model, *(f"{name}={getattr(self, name)}" for name in changed)])

    def _checked(self, text: str) -> "ModelSetting":
        if self.threads < 1:
            raise UsageError(f"{text!r}: threads is {self.threads}; give at least 1")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"{text!r}: min_confidence is {self.min_confidence}; give 0 to 1")
        try:
            input_sizes.parse(self.input_size)
        except ModelError as error:
            raise UsageError(f"{text!r}: {error}") from error
        return self
