"""What every room's tests share: the catalogue, its tables, and stand-in checkpoints written by torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from r2convert.catalog import Catalog, load_catalog
from r2convert.mapping.tables import Tables

# Tests and the processes they start compete for the same cores: threads that wait for work must not spin meanwhile.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts the tests in the background has them ignore SIGINT, and every process they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("r2convert", deadline=None)
settings.load_profile("r2convert")

Standin = Callable[..., Path]

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded facts, described by its README."""
    return DATA


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The built-in catalogue, whatever the environment says."""
    return load_catalog({})


@pytest.fixture(scope="session")
def tables(catalog: Catalog) -> Tables:
    """The tables of the built-in catalogue."""
    return Tables(catalog)


@pytest.fixture(scope="session")
def standin(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Standin:
    """Write a stand-in checkpoint with torch; the same one is written once a session."""
    from r2convert.checks.standins import write_random_checkpoint

    folder = tmp_path_factory.mktemp("standins")

    def write(variant: str, layout: str = "official", *, legacy: bool = False, seed: int = 0) -> Path:
        path = folder / f"{variant}-{layout}-{'legacy' if legacy else 'zip'}-{seed}.pth"
        if not path.exists():
            found = tables.catalog.find(variant)
            write_random_checkpoint(tables, found, path, layout=layout, legacy=legacy, seed=seed)
        return path

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A very small network is slower on several threads, most of all beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
