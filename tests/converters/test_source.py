"""Where checkpoints come from, against a server that speaks as much of the hub's language as is used."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

from facellm_converters.checkpoint.hub import HubId
from facellm_converters.checkpoint.source import hub_id, resolve
from facellm_converters.checkpoint.tensors import opened
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.layouts.checkpoint import open_checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")

REPO, COMMIT = "faces/tiny", "c0ffee" * 6 + "abcd"
#: The library hands on pieces of 10 MiB: three of them.
LARGE = save({"w": np.arange(6 << 20, dtype=np.float32)})
SMALL = {"config.json": b'{"model_type": "tiny"}', "tokenizer.json": b"{}", "README.md": b"# Tiny\n"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Seen:
    path: str
    range: str
    authorization: str


@dataclass
class Faults:
    """``cut_after``: bytes after which the connection breaks, once each; ``answers``: path → status, error code."""

    cut_after: list[int] = field(default_factory=list)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    ignores_ranges: bool = False
    page: bytes | None = None


class Hub(ThreadingHTTPServer):
    """A hub with one model; weights lie on ``store``, another server, as the real hub's do."""

    daemon_threads = True

    def __init__(self, store: Hub | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self.files: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.seen: list[Seen] = []
        self.faults = Faults()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def siblings(self) -> list[dict[str, object]]:
        rows = []
        for name, data in self.files.items():
            row: dict[str, object] = {
                "rfilename": name,
                "size": self.sizes.get(name, len(data)),
                "blobId": git_sha1(data),
            }
            if name.endswith((".safetensors", ".bin")):
                row["lfs"] = {"size": row["size"], "sha256": sha256(data), "pointerSize": 130}
            rows.append(row)
        return rows

    def asked(self, end: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith(end)]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        path = unquote(urlsplit(self.path).path)
        hub.seen.append(Seen(path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        status, code = next((hub.faults.answers[end] for end in hub.faults.answers if path.endswith(end)), (0, ""))
        name = path.rpartition("/")[2]
        if status:
            self._send(status, b"", {"X-Error-Code": code} if code else {})
        elif hub.faults.page is not None:
            self._send(200, hub.faults.page)
        elif path.startswith("/api/models/"):
            self._send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": hub.siblings()}).encode())
        elif hub.store is not None and name.endswith(".safetensors"):
            hub.store.files[name], hub.store.faults = hub.sent.get(name, hub.files[name]), hub.faults
            self._send(302, b"", {"Location": f"{hub.store.url}/{name}"})
        else:
            self._file(hub, hub.sent.get(name, hub.files[name]))

    def _file(self, hub: Hub, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not hub.faults.ignores_ranges else 0
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], more)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if hub.store is None and hub.faults.cut_after:
            self.wfile.write(body[: hub.faults.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        with suppress(ConnectionError):  # who asked went away, which a test wanted
            self.wfile.write(body)

    def log_message(self, _format: str, *args: object) -> None:
        """Quiet."""


def running(server: Hub) -> Iterator[Hub]:
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store() -> Iterator[Hub]:
    yield from running(Hub())


@pytest.fixture
def hub(store: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FACELLM_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    huggingface_hub.close_session()
    for server in running(Hub(store)):
        server.files = {
            **SMALL,
            "model.safetensors": LARGE,
            "modeling_tiny.py": b"boom()",
            "pytorch_model.bin": b"\x80",
        }
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def quiet(_step: str, _done: int, _whole: int) -> None:
    pass


def fetched(cache: Path, name: str = REPO, revision: str | None = None) -> Path:
    return resolve(name, revision=revision, cache=cache, tell=quiet)


def left_over(cache: Path) -> list[str]:
    """Files whose names say that they are not whole."""
    return [path.name for path in cache.rglob("*.incomplete")]


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve(str(tmp_path), revision=None, cache=None, tell=quiet) == tmp_path
    monkeypatch.chdir(tmp_path)  # a folder that is there wins over a model of that name
    assert resolve("owner/name", revision=None, cache=None, tell=quiet) == Path("owner/name")
    with pytest.raises(ConversionError, match="it has no revision main"):
        resolve("owner/name", revision="main", cache=None, tell=quiet)


@pytest.mark.parametrize(
    "name", ["./owner/name", "../name", "/owner/name", "~/name", "name", "a/b/c", "a\\b", "C:\\a", "a/", "", "a b/c"]
)
def test_what_looks_like_a_folder_is_never_taken_for_a_model_of_the_hub(name: str, hub: Hub, cache: Path) -> None:
    with pytest.raises(ConversionError, match="There is no folder"):
        fetched(cache, name)
    assert hub.seen == []


def test_a_file_is_no_checkpoint(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(ConversionError, match="is a file"):
        fetched(cache, str(tmp_path / "x.safetensors"))


def test_a_revision_is_named_once_and_stays_in_its_folder() -> None:
    assert hub_id("a/b") == HubId("a/b", "main")
    assert hub_id("a/b@v1") == hub_id("a/b", "v1") == hub_id("a/b@v1", "v1") == HubId("a/b", "v1")
    assert hub_id("a/b", "refs/pr/3") == HubId("a/b", "refs/pr/3")
    for name, revision in (("a/b@v1", "v2"), ("a/b", "../../x"), ("a/b", "/etc"), ("a/b@x y", None)):
        with pytest.raises(ConversionError, match="revision"):
            hub_id(name, revision)


def test_weights_and_texts_are_fetched_and_neither_code_nor_pickles(hub: Hub, cache: Path) -> None:
    hub.files |= {
        "chat_template.jinja": b"{}",
        "LICENSE": b"MIT",
        "vocab.txt": b"",
        "train.sh": b"",
        "onnx/config.json": b"{}",
    }
    told: list[tuple[str, int, int]] = []
    folder = resolve(REPO, revision=None, cache=cache, tell=lambda *row: told.append(row))
    names = {"model.safetensors", "chat_template.jinja", "LICENSE", "vocab.txt", *SMALL}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: hub.files[name] for name in names}
    assert folder.name == COMMIT
    with opened(folder) as tensors:
        assert tensors.infos["w"].shape == (6 << 20,)
    weights = [row for row in told if row[0] == "fetching weights"]
    assert weights[0][1:] == (0, len(LARGE))
    assert weights[-1][1:] == (len(LARGE), len(LARGE))
    assert len(weights) >= 4
    assert [row[1] for row in weights] == sorted(row[1] for row in weights)
    assert left_over(cache) == []


def test_a_checkpoint_of_transformers_comes_through_whole(made: Path, hub: Hub, cache: Path) -> None:
    hub.files = {path.name: path.read_bytes() for path in (made / "qwen2").iterdir()}
    with open_checkpoint(fetched(cache)) as far, open_checkpoint(made / "qwen2") as near:
        assert far.kind == near.kind
        assert set(far.tensors.infos) == set(near.tensors.infos)


def test_the_library_finds_what_was_fetched_and_the_other_way_round(hub: Hub, cache: Path) -> None:
    folder = fetched(cache)
    found = huggingface_hub.try_to_load_from_cache(REPO, "model.safetensors", cache_dir=cache)
    assert Path(found) == folder / "model.safetensors"
    before = len(hub.asked(".safetensors"))
    assert fetched(cache) == folder
    assert len(hub.asked(".safetensors")) == before
    (folder / "model.safetensors").unlink()  # as another revision's folder looks at first
    assert fetched(cache) == folder
    assert len(hub.asked(".safetensors")) == before
    assert (folder / "model.safetensors").read_bytes() == LARGE


def test_an_interrupted_fetch_goes_on_from_where_it_was(hub: Hub, store: Hub, cache: Path) -> None:
    def stop(step: str, done: int, _whole: int) -> None:
        if step == "fetching weights" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(REPO, revision=None, cache=cache, tell=stop)
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    have = part.stat().st_size
    assert 0 < have < len(LARGE)
    assert not list(cache.rglob("snapshots/*/model.safetensors"))
    store.seen.clear()
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert [seen.range for seen in store.asked(".safetensors")] == [f"bytes={have}-"]
    assert left_over(cache) == []


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, store: Hub, cache: Path) -> None:
    hub.faults.cut_after = [12 << 20]
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert [seen.range for seen in store.asked(".safetensors")] == ["", f"bytes={10 << 20}-"]


def test_a_server_without_ranges_begins_anew(hub: Hub, cache: Path) -> None:
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE[: 5 << 20])
    hub.faults.ignores_ranges = True
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_other_bytes_than_the_hub_lists_are_refused_and_thrown_away(hub: Hub, cache: Path, name: str) -> None:
    right = hub.files[name]
    hub.sent[name] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(BadCheckpoint, match=f"{name} of faces/tiny has another hash"):
        fetched(cache)
    assert left_over(cache) == []
    assert not list(cache.rglob(f"snapshots/*/{name}"))
    del hub.sent[name]
    assert (fetched(cache) / name).read_bytes() == right


def test_a_begun_file_that_is_not_the_hubs_is_found_out(hub: Hub, cache: Path) -> None:
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(BadCheckpoint, match="another hash"):
        fetched(cache)
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE


def test_of_several_weights_those_of_the_index_are_fetched(hub: Hub, cache: Path) -> None:
    parts = {f"model-0000{number}-of-00002.safetensors": save({f"w{number}": np.ones(4)}) for number in (1, 2)}
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(parts, 1)}}
    hub.files = {
        **SMALL,
        **parts,
        "consolidated.safetensors": LARGE,
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    folder = fetched(cache)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(parts)
    del hub.files["model-00002-of-00002.safetensors"]
    with pytest.raises(BadCheckpoint, match=r"names 1 files that are not there: model-00002"):
        fetched(cache)


def test_without_an_index_the_usual_file_is_fetched_and_no_second_copy(hub: Hub, cache: Path) -> None:
    hub.files["consolidated.safetensors"] = LARGE[::-1]
    assert [path.name for path in fetched(cache).glob("*.safetensors")] == ["model.safetensors"]
    assert not hub.asked("consolidated.safetensors")


@pytest.mark.parametrize(("other", "says"), [("pytorch_model.bin", "pickle"), ("x-Q4_K_M.gguf", "converted already")])
def test_a_model_without_safetensors_is_told_before_anything_is_fetched(
    hub: Hub, cache: Path, other: str, says: str
) -> None:
    hub.files = {**SMALL, other: b"x"}
    with pytest.raises(BadCheckpoint, match=f"holds no safetensors weights, but {other}") as caught:
        fetched(cache)
    assert says in caught.value.hint
    assert len(hub.seen) == 1
    assert not cache.exists()


@pytest.mark.parametrize(
    ("where", "status", "code", "says", "hint"),
    [
        ("/revision/main", 401, "RepoNotFound", "neither a folder faces/tiny nor a model", "private"),
        ("/revision/main", 401, "", r"does not let you read faces/tiny \(401\)", "Check the name"),
        ("/revision/main", 404, "", "neither a folder faces/tiny nor a model", "Check the name"),
        ("/revision/main", 404, "RevisionNotFound", "has no revision main", "/faces/tiny/commits"),
        ("/revision/main", 503, "", "answered 503", "later"),
        ("/model.safetensors", 403, "GatedRepo", "accepted its licence", "/faces/tiny, then log in"),
        ("/model.safetensors", 403, "", r"does not let you read faces/tiny \(403\)", "HF_TOKEN"),
        ("/model.safetensors", 401, "", r"does not let you read faces/tiny \(401\)", "HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_told_with_what_to_do(
    hub: Hub, cache: Path, where: str, status: int, code: str, says: str, hint: str
) -> None:
    hub.faults.answers[where] = (status, code)
    with pytest.raises(ConversionError, match=says) as caught:
        fetched(cache)
    assert hint in caught.value.hint
    assert left_over(cache) in ([], [f"{sha256(LARGE)}.incomplete"])


def test_a_log_in_page_is_not_taken_for_the_hub(hub: Hub, cache: Path) -> None:
    hub.faults.page = b"<html>Welcome to the hotel</html>"
    with pytest.raises(ConversionError, match="does not answer as the hub does"):
        fetched(cache)


def test_without_a_network_is_told_what_can_be_done(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(
            ConversionError, match=r"faces/tiny cannot be fetched, the connection to http://127"
        ) as caught:
            fetched(cache)
        assert "*.safetensors, *.json, *.jinja and tokenizer files" in caught.value.hint
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = fetched(cache)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConversionError) as caught:
            fetched(cache)
        assert "HF_HUB_OFFLINE=1" in caught.value.hint
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert fetched(cache) == folder


def test_offline_nothing_is_asked_and_a_part_is_not_taken_for_the_whole(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConversionError, match="was not fetched before") as caught:
        fetched(cache)
    assert caught.value.hint.startswith("Unset HF_HUB_OFFLINE")
    assert hub.seen == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = fetched(cache, f"{REPO}@v1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.seen.clear()
    assert fetched(cache, revision="v1") == fetched(cache, revision=COMMIT) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"only a part was fetched before; missing: \*.safetensors"):
        fetched(cache, revision="v1")
    assert hub.seen == []


def test_a_disk_that_is_too_small_is_found_before_the_weights_are_asked_for(hub: Hub, cache: Path) -> None:
    hub.sizes["model.safetensors"] = 10**18
    with pytest.raises(ConversionError, match=r"1,000,000,000.0 GB of faces/tiny are to be fetched; .* are free in"):
        fetched(cache)
    assert hub.asked(".safetensors") == []


def test_a_cache_that_is_a_file_is_a_sentence(hub: Hub, cache: Path) -> None:
    cache.write_text("")
    with pytest.raises(ConversionError, match="cannot be written"):
        fetched(cache)


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    hub: Hub, store: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched(cache)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}
    assert [seen.authorization for seen in store.seen] == [""]


def test_a_list_that_reaches_outside_its_folder_is_not_followed(hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.files = {**SMALL, "tower.safetensors": save({"w": np.ones(4)}), "..\\evil.json": b"{}"}
    hub.files |= {"../../evil.json": b"{}", "../../evil.safetensors": b"", "more/evil.safetensors": b""}
    assert (fetched(cache) / "tower.safetensors").is_file()
    assert not [seen for seen in hub.seen if "evil" in seen.path]
    assert not list(tmp_path.rglob("*evil*"))


def test_without_the_library_is_told_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConversionError, match="needs the package huggingface_hub") as caught:
        fetched(cache)
    assert "pip install huggingface_hub" in caught.value.hint
