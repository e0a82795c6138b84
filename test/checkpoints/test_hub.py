"""import hf:ORG/NAME: the hub's own client against a server on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file
from support.recorded import by_rule

from seg_perception import cli

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/segformer-b0-test"


class Hub(ThreadingHTTPServer):
    """One repository; `closed` names with a status and a code, `cut` breaks downloads off."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.requests = files, []
        self.cut = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """The few answers that the client asks for."""

    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(path)
        headers: dict[str, str] = {"X-Repo-Commit": SHA}
        status, body = 404, b"{}"
        if "closed/" in path:
            status, headers["X-Error-Code"] = 403, "GatedRepo"
        elif NAME not in path:
            headers["X-Error-Code"] = "RepoNotFound"
        elif (
            path.startswith("/api/")
            and not path.endswith(("/main", SHA, NAME))
            and ("/tree/" not in path)
        ):
            headers["X-Error-Code"] = "RevisionNotFound"
        elif "/tree/" in path:
            rows = [
                {"type": "file", "path": n, "size": len(b), "oid": sha256(b).hexdigest()[:40]}
                for n, b in self.server.files.items()
            ]
            status, body = 200, json.dumps(rows).encode()
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.server.files]
            info = {"id": NAME, "sha": SHA, "siblings": siblings, "private": False,
                    "cardData": {"license": "cc0-1.0"}, "tags": [], "downloads": 0}  # fmt: skip
            status, body = 200, json.dumps(info).encode()
        elif "/resolve/" in path and path.rpartition("/")[2] in self.server.files:
            status, body = 200, self.server.files[path.rpartition("/")[2]]
            headers["ETag"] = f'"{sha256(body).hexdigest()}"'
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            is_cut = self.server.cut and len(body) > 100_000
            self.wfile.write(body[: len(body) // 2] if is_cut else body)
            if is_cut:
                self.close_connection = True


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("saved")
    weights = by_rule("hugging_face", "segformer_b0|saved")
    save_file({k: torch.as_tensor(v) for k, v in weights.items()}, folder / "model.safetensors")
    classes = next(v.shape[0] for k, v in weights.items() if k == "decode_head.classifier.weight")
    names = {str(i): f"thing {i}" for i in range(classes)}
    config = {"architectures": ["SegformerForSemanticSegmentation"], "id2label": names}
    processor = {"size": {"height": 64, "width": 96}, "do_reduce_labels": False}
    return {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(processor).encode(),
        "model.safetensors": (folder / "model.safetensors").read_bytes(),
        "pytorch_model.bin": b"never asked for",
        "README.md": b"never asked for",
    }


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub(files) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def take(
    hub: Hub, source: str, out: Path, cache: Path, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Import in a process of its own: the client reads its variables when it is imported."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1", **more,
    }  # fmt: skip
    command = [sys.executable, "-m", "seg_perception.cli", "import", source, "-o", str(out)]
    return subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=250
    )


def test_a_name_on_the_hub_becomes_a_model_and_stays_in_the_cache(hub: Hub, tmp_path: Path) -> None:
    out, cache = tmp_path / "m.onnx", tmp_path / "cache"
    done = take(hub, f"hf:{NAME}", out, cache)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["architecture"] == "segformer_b0"
    assert told["dialect"] == "hugging_face"
    asked = [path for path in hub.requests if "/resolve/" in path]
    assert {path.rpartition("/")[2] for path in asked} == {
        "config.json", "preprocessor_config.json", "model.safetensors",
    }  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-m", "seg_perception.cli", "models", "show", str(out)],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert f"source: hf:{NAME}@{SHA}" in shown
    assert "license: cc0-1.0" in shown
    offline = take(hub, f"hf:{NAME}", tmp_path / "b.onnx", cache, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert "the hub cannot be reached" in offline.stderr


def test_what_cannot_be_had_is_named_and_nothing_is_left(hub: Hub, tmp_path: Path) -> None:
    out, cache = tmp_path / "m.onnx", tmp_path / "cache"
    for source, more, status, message in (
        ("hf:someone/else", {}, 1, "hf:someone/else is not on the hub, or is private"),
        ("hf:closed/net", {}, 1, "asks its users to accept its terms"),
        (f"hf:{NAME}@none", {}, 1, "there is no such branch, tag or commit"),
        (f"hf:{NAME}", {"HF_HUB_OFFLINE": "1"}, 1, "is not in the cache, and the hub cannot be"),
        (f"hf:{NAME}", {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "is not in the cache"),
        ("hf:segformer", {}, 2, "hf:segformer is no name on the hub; write hf:ORG/NAME"),
    ):
        done = take(hub, source, out, cache, **more)
        assert done.returncode == status, done.stderr
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_download_that_breaks_off_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.cut = True
    done = take(hub, f"hf:{NAME}", tmp_path / "m.onnx", tmp_path / "cache")
    assert done.returncode == 1
    assert "could not be downloaded" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m.onnx").exists()
    hub.cut = False
    assert take(hub, f"hf:{NAME}", tmp_path / "m.onnx", tmp_path / "cache").returncode == 0


def test_known_names_are_listed_with_score_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--hub"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[0].split()[:2] == ["hf:nvidia/segformer-b0-finetuned-ade-512-512", "38.1"]
    assert all("NVIDIA Source Code License" in line for line in lines[:-1])
