"""What proves or overrules a presumption: digests, receipts, content, metadata and the user's word, in real files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from r2convert.catalog.variant import Source, Variant
from r2convert.checkpoint.open import open_checkpoint
from r2convert.mapping.conversion import convert
from r2convert.mapping.evidence import Clues, recognise, weigh
from r2convert.mapping.identity import Identity, resolve
from r2convert.mapping.plan import plan_conversion, with_evidence
from r2convert.mapping.receipt import read_receipt, receipt_path
from r2convert.mapping.tables import Tables
from r2convert.mapping.values import read_values
from tests.conftest import Standin

V1B = "res2net50_v1b_w26_s4"
VD = "res2net50_vd_w26_s4"
MMDET = "res2net50_mmdet_w26_s4"


def identity_of(tables: Tables, path: Path, said: Variant | None = None, **clues: Mapping[str, str]) -> Identity:
    with open_checkpoint(path) as checkpoint:
        return recognise(tables, checkpoint, said, **clues).identity  # type: ignore[arg-type]


def converted(tables: Tables, source: Path, destination: Path, target: str) -> Path:
    """Convert as the command line does: the evidence is weighed when the source's digest is known."""
    with open_checkpoint(source) as checkpoint:
        resolution = resolve(tables, checkpoint)
        plan = plan_conversion(tables, resolution, target, checkpoint.tensors)
        convert(
            checkpoint,
            plan,
            destination,
            settle=lambda _: with_evidence(tables, plan, recognise(tables, checkpoint)),
        )
    return destination


@pytest.fixture(scope="module")
def paddle_vd(tables: Tables, tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Path:
    """A vd-50 in Paddle's own layout, with no receipt beside it."""
    path = tmp_path_factory.mktemp("vd") / "vd50.pdparams"
    converted(tables, standin(V1B), path, "paddle")
    receipt_path(path).unlink()
    return path


def test_without_evidence_the_layouts_program_is_presumed(tables: Tables, standin: Standin, paddle_vd: Path) -> None:
    official, paddle = identity_of(tables, standin(V1B)), identity_of(tables, paddle_vd)
    assert (official.variant.id, official.proven, official.weights) == (V1B, False, None)
    assert (paddle.variant.id, paddle.proven, paddle.weights) == (VD, False, None)


@pytest.mark.parametrize(("target", "suffix"), [("mm", ".pth"), ("official", ".pth"), ("timm", ".safetensors")])
def test_a_receipt_carries_the_presumption_along(
    tables: Tables, paddle_vd: Path, tmp_path: Path, target: str, suffix: str
) -> None:
    output = converted(tables, paddle_vd, tmp_path / f"out{suffix}", target)
    found = identity_of(tables, output)
    assert (found.variant.id, found.proven) == (VD, False)
    assert found.evidence == (
        f"{VD}, by its receipt, presumed when it was converted; {V1B} (the authors' network) and {MMDET} "
        "(mmdetection's network) have the same"
    )
    statement = json.loads(receipt_path(output).read_text())
    assert statement["predicate"]["evidence"]["architecture"] == "presumed"
    assert statement["predicate"]["evidence"]["alsoFits"] == [V1B, MMDET]


def test_a_safetensors_file_carries_its_receipt_inside(tables: Tables, paddle_vd: Path, tmp_path: Path) -> None:
    inside = converted(tables, paddle_vd, tmp_path / "out.safetensors", "timm")
    receipt_path(inside).unlink()
    assert identity_of(tables, inside).variant.id == VD
    bare = converted(tables, paddle_vd, tmp_path / "out.pth", "timm")
    receipt_path(bare).unlink()
    assert identity_of(tables, bare).variant.id == V1B


def test_a_receipt_of_other_bytes_says_nothing(
    tables: Tables, standin: Standin, paddle_vd: Path, tmp_path: Path
) -> None:
    output = converted(tables, paddle_vd, tmp_path / "out.pth", "official")
    output.write_bytes(standin(V1B).read_bytes())
    assert read_receipt(output) is not None
    assert identity_of(tables, output).variant.id == V1B


def test_metadata_that_one_program_writes_names_it(tables: Tables, standin: Standin, tmp_path: Path) -> None:
    state = torch.load(standin(V1B), weights_only=True)
    torch.save({"meta": {"mmdet_version": "2.25.0"}, "state_dict": state}, tmp_path / "trained.pth")
    found = identity_of(tables, tmp_path / "trained.pth")
    assert (found.variant.id, found.proven) == (MMDET, True)
    assert [each.id for each in found.fits] == [MMDET, V1B, VD]


def test_the_users_word_is_taken_among_what_fits(tables: Tables, standin: Standin) -> None:
    found = identity_of(tables, standin(V1B), tables.catalog.find_architecture(VD))
    assert (found.variant.id, found.proven, found.evidence) == (VD, True, f"{VD}, as specified")


def publish(tables: Tables, name: str, **facts: str) -> Tables:
    """The tables of a catalogue in which the first file of a variant has other digests."""
    known = tables.catalog.find(name)
    first = known.weights[0]
    source: Source = replace(first.sources[0], **{"sha256_prefix": None, **facts})
    changed = replace(known, weights=(replace(first, sources=(source, *first.sources[1:])), *known.weights[1:]))
    return Tables(replace(tables.catalog, variants={**tables.catalog.variants, known.id: changed}))


@pytest.mark.parametrize("digits", [8, 64])
def test_the_digest_of_a_published_file_proves_its_weights(tables: Tables, standin: Standin, digits: int) -> None:
    digest = hashlib.sha256(standin(V1B).read_bytes()).hexdigest()
    published = publish(tables, V1B, **{"sha256_prefix" if digits == 8 else "sha256": digest[:digits]})
    found = identity_of(published, standin(V1B))
    assert found.weights is not None
    assert (found.variant.id, found.proven, found.weights.id) == (V1B, True, f"{V1B}.official")
    assert "res2net50_v1b_26w_4s-3cf99910.pth" in found.evidence


def test_a_pin_proves_a_file_of_which_no_digest_is_published(tables: Tables, standin: Standin) -> None:
    digest = hashlib.sha256(standin(V1B).read_bytes()).hexdigest()
    found = identity_of(tables, standin(V1B), pins={"res2net50d.in1k.safetensors": digest})
    assert found.weights is not None
    assert found.weights.id == f"{V1B}.timm"


def test_a_conversion_of_a_proven_file_is_proven_by_its_receipt(
    tables: Tables, standin: Standin, tmp_path: Path
) -> None:
    digest = hashlib.sha256(standin(V1B).read_bytes()).hexdigest()
    published = publish(tables, V1B, sha256=digest)
    output = converted(published, standin(V1B), tmp_path / "mmdet.pth", "mmdet")
    found = identity_of(published, output)
    assert found.weights is not None
    assert (found.variant.id, found.layout, found.proven, found.weights.id) == (V1B, "mmdet", True, f"{V1B}.official")
    receipt = read_receipt(output)
    assert receipt is not None
    assert (receipt.proven, receipt.weights) == (True, f"{V1B}.official")


def test_a_known_content_hash_proves_the_weights_in_any_container(tables: Tables, standin: Standin) -> None:
    with open_checkpoint(standin(V1B)) as checkpoint:
        resolution = resolve(tables, checkpoint)
        content, _ = read_values(checkpoint, resolution)
    published = publish(tables, V1B, content_hash=content)
    with open_checkpoint(standin(V1B)) as checkpoint:
        resolution = resolve(published, checkpoint)
    found = weigh(published, resolution, Clues(content_hash=content)).identity
    assert found.evidence == f"{V1B}, its content is that of {V1B}.official"
    assert weigh(published, resolution, Clues(content_hash=64 * "0")).identity.weights is None
