"""Files named as hf://ORG/REPO[@REVISION][/FILE], from a stand-in of the hub that answers as its HTTP API does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from r2convert import api
from r2convert.download.cache import Cache, CachedFile
from r2convert.download.hub import HubReference, cached_hub_file, fetch_hub_file
from r2convert.download.transfer import FetchSettings
from r2convert.errors import AccessError, FetchError, OfflineError, ServerRefusedError, UsageError, WrongFileError
from tests.download import server as faults
from tests.download.server import Fault, LoopbackServer
from tests.download.support import QUICK, sample, sha256

DATA = sample()
OTHER = sample(seed=1)
REPO = "hf://timm/res2net50_14w_8s.in1k"


class Hub:
    """One repository on the loopback, described as https://huggingface.co/docs/hub/api says."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server
        self.files: dict[str, bytes] = {}

    def put(self, path: str, data: bytes, *, revision: str = "main", lfs: bool = True) -> None:
        self.files[path] = data
        siblings = [{"rfilename": "README.md", "size": 5, "blobId": "0" * 40}]
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
            if lfs:
                entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        self.answer({"id": REPO.removeprefix("hf://"), "sha": "f" * 40, "siblings": siblings}, revision=revision)
        self.server.put(f"timm/res2net50_14w_8s.in1k/resolve/{revision}/{path}", data, faults.redirect(f"/blob/{path}"))
        self.server.put(f"blob/{path}", data)

    def answer(self, document: object, *fault: Fault, revision: str = "main") -> None:
        path = f"api/models/timm/res2net50_14w_8s.in1k/revision/{revision}?blobs=true"
        self.server.put(path, json.dumps(document).encode(), *fault)


@pytest.fixture
def hub(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    return Hub(server)


def get(text: str, cache: Cache, *, offline: bool = False) -> CachedFile:
    return fetch_hub_file(text, cache, offline=offline, settings=FetchSettings(patience=QUICK))


@pytest.mark.parametrize("path", ["model.safetensors", "weights/epoch 10.pth", "größe.pt"])
def test_a_file_is_fetched_verified_and_found_again_without_the_hub(path: str, hub: Hub, cache: Cache) -> None:
    hub.put(path, DATA)
    hub.server.put(f"timm/res2net50_14w_8s.in1k/resolve/main/{quote(path)}", DATA)
    file = get(f"{REPO}/{path}", cache)
    assert file.path.read_bytes() == DATA
    assert file.sha256 == sha256(DATA)
    assert file.path.name == f"hf--timm--res2net50_14w_8s.in1k--{path.replace('/', '--')}"
    hub.server.requests.clear()
    assert get(f"{REPO}/{path}", cache).path == file.path
    found = cached_hub_file(f"{REPO}/{path}", cache)
    assert found is not None
    assert found.path == file.path
    assert hub.server.requests == []


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "optimizer.pt"], "model.safetensors"),
        (["pytorch_model.bin", "optimizer.pt"], "pytorch_model.bin"),
        (["res2net.pth"], "res2net.pth"),
    ],
)
def test_where_no_file_is_named_the_usual_or_only_one_is_taken(
    paths: list[str], chosen: str, hub: Hub, cache: Cache
) -> None:
    for path in paths:
        hub.put(path, DATA)
    assert get(REPO, cache).path.name.endswith(f"--{chosen}")
    assert get(REPO, cache, offline=True).path.name.endswith(f"--{chosen}")


def test_several_files_are_not_guessed(hub: Hub, cache: Cache) -> None:
    hub.put("a.pth", DATA)
    hub.put("b.pth", DATA)
    with pytest.raises(UsageError, match="several") as caught:
        get(REPO, cache)
    assert (caught.value.got, caught.value.next_step) == ("a.pth, b.pth", f"name one: {REPO}/FILE")


@pytest.mark.parametrize("path", ["", "/missing.pth"])
def test_a_repository_without_the_file_says_what_it_has(path: str, hub: Hub, cache: Cache) -> None:
    hub.put("config.json", b"{}")
    with pytest.raises(UsageError) as caught:
        get(REPO + path, cache)
    assert caught.value.got == "README.md, config.json"


def test_a_file_that_is_not_what_the_hub_says_is_refused(hub: Hub, cache: Cache) -> None:
    hub.put("model.safetensors", DATA)
    hub.server.put("blob/model.safetensors", OTHER)
    with pytest.raises(WrongFileError):
        get(REPO, cache)


def test_a_branch_that_moves_is_held_to_the_first_sight(hub: Hub, cache: Cache) -> None:
    hub.put("model.safetensors", DATA)
    get(REPO, cache).path.unlink()
    hub.put("model.safetensors", OTHER)
    with pytest.raises(WrongFileError) as caught:
        get(REPO, cache)
    assert "cache --forget hf--timm--res2net50_14w_8s.in1k--model.safetensors" in (caught.value.next_step or "")
    hub.put("model.safetensors", OTHER, revision="v2")
    assert get(REPO.replace("in1k", "in1k@v2"), cache).path.read_bytes() == OTHER


def test_a_file_of_which_the_hub_knows_no_hash_is_looked_into(hub: Hub, cache: Cache) -> None:
    hub.put("model.safetensors", DATA, lfs=False)
    assert get(REPO, cache).trust == "unknown"
    hub.put("other.safetensors", b"<!DOCTYPE html>", lfs=False)
    with pytest.raises(WrongFileError, match="no sound file"):
        get(f"{REPO}/other.safetensors", cache)


@pytest.mark.parametrize("document", [[], {}, {"siblings": 3}, {"siblings": [{}]}, {"siblings": [3]}, "x"])
def test_an_answer_of_another_shape_is_a_clear_error(document: object, hub: Hub, cache: Cache) -> None:
    hub.answer(document)
    with pytest.raises(ServerRefusedError, match="cannot be read"):
        get(REPO, cache)


@pytest.mark.parametrize("fault", [faults.endless, faults.dripping_header, faults.flood_of_continue])
def test_a_hub_that_does_not_come_to_an_end_is_given_up(fault: Fault, hub: Hub, cache: Cache) -> None:
    hub.answer({}, *[fault] * 9)
    with pytest.raises(FetchError):
        get(REPO, cache)


def test_a_passing_fault_of_the_hub_is_passed(hub: Hub, cache: Cache) -> None:
    hub.put("model.safetensors", DATA)
    path = "api/models/timm/res2net50_14w_8s.in1k/revision/main?blobs=true"
    hub.server.shelves[path].faults.append(faults.status(503))
    assert get(REPO, cache).path.read_bytes() == DATA


def test_a_hub_that_asks_for_patience_is_given_it(hub: Hub, cache: Cache) -> None:
    hub.put("model.safetensors", DATA)
    shelf = hub.server.shelves["api/models/timm/res2net50_14w_8s.in1k/revision/main?blobs=true"]
    shelf.faults.append(faults.status(429, retry_after="1"))
    started = time.monotonic()
    get(REPO, cache)
    assert time.monotonic() - started >= 1
    shelf.faults.append(faults.status(429, retry_after="3600"))
    hub.server.requests.clear()
    with pytest.raises(ServerRefusedError, match="429"):
        get(f"{REPO}@main/other.pth", cache)
    assert len(hub.server.requests) == 1


def test_a_repository_that_is_not_there_or_needs_a_login_says_so(hub: Hub, cache: Cache) -> None:
    hub.answer({}, faults.status(401))
    with pytest.raises(ServerRefusedError) as caught:
        get(REPO, cache)
    assert "login" in (caught.value.next_step or "")


def test_without_the_network_it_is_in_the_cache_or_an_error(hub: Hub, cache: Cache) -> None:
    with pytest.raises(OfflineError):
        get(REPO, cache, offline=True)
    assert cached_hub_file(REPO, cache) is None
    assert hub.server.requests == []


@pytest.mark.parametrize("text", ["hf://", "hf://timm", "hf://timm/", "hf://a/b/../c", "hf://a/b//c", "hf://a b/c"])
def test_what_names_no_file_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="no file on the hub"):
        HubReference.of(text)


def test_every_function_that_takes_a_checkpoint_takes_one_of_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2CONVERT_CACHE", str(tmp_path / "cache"))
    hub.put("model.safetensors", DATA)
    with pytest.raises(AccessError, match="not in the cache") as caught:
        api.locate(REPO)
    assert "--fetch" in (caught.value.next_step or "")
    path = api.locate(REPO, fetch=True).path
    assert path.read_bytes() == DATA
    assert api.locate(REPO).path == path


def test_fetch_takes_files_of_the_hub_beside_variants(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2CONVERT_CACHE", str(tmp_path / "cache"))
    hub.put("model.safetensors", DATA)
    fetched = api.fetch_all([REPO, "res2net50_w14_s8"], offline=True)
    assert (fetched.files, len(fetched.errors)) == ((), 2)
    fetched = api.fetch_all([REPO])
    ((variant, file),) = fetched.files
    assert (variant, file.sha256, fetched.errors) == (None, sha256(DATA), ())
    assert api.fetch(REPO, offline=True).path == file.path
