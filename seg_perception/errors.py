"""Errors of the package: each message holds the offending value and the next step."""


class SegPerceptionError(Exception):
    """Base of every error that the package raises on purpose."""


class ImageError(SegPerceptionError):
    """An image that cannot be read: wrong size, step, encoding or bytes."""


class ManifestError(SegPerceptionError):
    """A manifest that is missing, incomplete or disagrees with its network."""


class ModelError(SegPerceptionError):
    """A model file or architecture that cannot be used."""


class CheckpointError(SegPerceptionError):
    """A checkpoint that cannot be read safely or does not fit its architecture."""


class ProviderError(SegPerceptionError):
    """A runtime provider that was asked for and is not active."""


class DataError(SegPerceptionError):
    """A bag, folder or label file that cannot be used."""


class GeometryError(SegPerceptionError):
    """A camera, pose or grid that gives no map."""


class UsageError(SegPerceptionError):
    """A command that asks for what it cannot give as it is written."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name where it says nothing."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__
