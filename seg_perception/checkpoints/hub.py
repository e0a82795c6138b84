"""Download the files of a checkpoint from the Hugging Face hub, with its own client and cache."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from seg_perception import catalogue
from seg_perception.errors import CheckpointError, UsageError, first_line

SCHEME = "hf:"
NAME = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
TEXTS = ("config.json", "preprocessor_config.json")
# The first form that is there is downloaded, whole or in shards.
WEIGHTS = (("model*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin*",))
# The official SegFormer networks there: the data set as it is called in their names, and sizes.
KNOWN = {"ade20k": ("ade", "512-512"), "cityscapes": ("cityscapes", "1024-1024")}
SIZES = {("segformer_b5", "ade20k"): "640-640"}


class Download(NamedTuple):
    """The folder with the files, the name with the commit they are of, and the licence told.

    `note` says where the hub was not asked.
    """

    folder: Path
    origin: str
    license: str
    note: str = ""


def is_name(source: Path) -> bool:
    """Return whether a source of import names something on the hub."""
    return str(source).startswith(SCHEME)


def download(source: Path) -> Download:
    """Return the checkpoint hf:ORG/NAME[@REVISION]: what is not in the cache is downloaded.

    Nothing but config and weights is taken. UsageError for a text that is no such name,
    CheckpointError for what is not there, closed to the user, or cannot be reached.
    """
    found = NAME.fullmatch(str(source))
    if found is None:
        raise UsageError(f"{source} is no name on the hub; write hf:ORG/NAME or hf:ORG/NAME@BRANCH")
    name, revision = found["name"], found["revision"]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before its first import
    import huggingface_hub

    with _errors_told(name, revision):
        try:
            info = huggingface_hub.model_info(name, revision=revision)
        except huggingface_hub.errors.HfHubHTTPError:
            raise  # the hub has answered
        except _transport_errors():
            folder = _cached(name, revision)
            note = (
                f"the hub cannot be reached: {folder} is an earlier download, whose licence is not "
                "known here"
            )
            return Download(folder, f"hf:{name}@{folder.name}", "", note)
        files = [file.rfilename for file in info.siblings or ()]
        patterns = [*TEXTS, *_weights(name, files)]
        folder = Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns)
        )
    told = info.card_data.get("license") if info.card_data else None
    return Download(folder, f"hf:{name}@{folder.name}", str(told or ""))


def known_names() -> list[tuple[str, str, float | None]]:
    """Return name, licence and published mIoU (percent) of SegFormer's official networks there."""
    rows = []
    for entry in catalogue.ENTRIES:
        if entry.arch.startswith("segformer_") and entry.dataset in KNOWN:
            data, size = KNOWN[entry.dataset]
            size = SIZES.get((entry.arch, entry.dataset), size)
            variant = entry.arch.removeprefix("segformer_")
            name = f"hf:nvidia/segformer-{variant}-finetuned-{data}-{size}"
            rows.append((name, entry.license, entry.miou))
    return rows


def _cached(name: str, revision: str | None) -> Path:
    """Return the folder of an earlier download; LocalEntryNotFoundError where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for patterns in WEIGHTS:
        allowed = [*TEXTS, *patterns]
        with suppress(LocalEntryNotFoundError):  # it holds another form of the weights
            folder = snapshot_download(
                name, revision=revision, allow_patterns=allowed, local_files_only=True
            )
            return Path(folder)
    raise LocalEntryNotFoundError(f"no weights of {name} are in the cache")


def _weights(name: str, files: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of the weights to download."""
    if TEXTS[0] not in files:
        raise CheckpointError(
            f"hf:{name} has no {TEXTS[0]}: it is no network of the transformers library; download "
            "its file and import that"
        )
    for patterns in WEIGHTS:
        stem = patterns[0].partition("*")[0]
        if any(file.startswith(stem) and file.endswith((".safetensors", ".bin")) for file in files):
            return patterns
    raise CheckpointError(
        f"hf:{name} has no weights for torch ({', '.join(files)}): choose another repository"
    )


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises where a request fails; its library for HTTP has changed."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


@contextmanager
def _errors_told(name: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors into ours, each with what to do."""
    from huggingface_hub import errors

    where = f"hf:{name}" + (f"@{revision}" if revision else "")
    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{where} asks its users to accept its terms: do that on its page, log in with "
            "huggingface-cli login or set HF_TOKEN, and import again"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{where}: there is no such branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{where} is not on the hub, or is private: look at its name; for a private one log in "
            "with huggingface-cli login or set HF_TOKEN"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{where} is not in the cache, and the hub cannot be reached: connect once, or copy "
            "the folder of another machine here and import that"
        ) from error
    except _transport_errors() as error:
        raise CheckpointError(
            f"{where} could not be downloaded ({first_line(error)}): import again, it goes on "
            "where it stopped"
        ) from error
