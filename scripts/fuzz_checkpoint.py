"""Fuzz the checkpoint reader with coverage guidance: one container a run, or all of them in turn.

    python scripts/fuzz_checkpoint.py --executions 200000 [--container torch-legacy] [--corpus FOLDER]

Needs `pip install atheris` (Linux, CPython up to 3.11 at the time of writing). The corpus starts from the sound
specimens and the catalogue of bad files. A run stops, and the exit code is not 0, at the first input that makes
the reader raise anything but an error of the project's own, take more than a second, or use too much memory; the
input is kept beside the corpus as `crash-*`, `timeout-*` or `oom-*`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: Seconds one input may take, and MiB the whole process (Python, NumPy and the fuzzer's tables included).
TIME_LIMIT = 1
MEMORY_LIMIT = 1024
#: Longest input: deep enough for every structure, short enough for many executions a second.
LONGEST_INPUT = 4096


#: What is fuzzed: whole files, and the parts that a checksum in a whole file would keep the fuzzer from.
CONTAINERS = (
    "torch-zip",
    "torch-zip-pickle",
    "torch-legacy",
    "torch-tar",
    "torch-tar-members",
    "torch-hub-zip",
    "safetensors",
    "pdparams",
    "paddle-static",
    "paddle-static-variable",
)


def wrappers() -> Mapping[str, Callable[[bytes], bytes]]:
    """How an input becomes a file. Called only once the reader is instrumented, as it imports parts of it."""
    from r2convert.selftest import specimens

    return {
        "torch-zip": bytes,
        "torch-zip-pickle": lambda data: specimens.torch_zip(data),
        "torch-legacy": bytes,
        "torch-tar": bytes,
        "torch-tar-members": _three_members,
        "torch-hub-zip": bytes,
        "safetensors": bytes,
        "pdparams": bytes,
        "paddle-static": bytes,
        "paddle-static-variable": lambda data: specimens.tar({"w": data}),
    }


def _three_members(data: bytes) -> bytes:
    """Make a tar whose three members are the input, cut where it says `CUT`."""
    from r2convert.selftest import specimens

    parts = [*data.split(b"CUT", 2), b"", b""]
    return specimens.tar(dict(zip(("storages", "tensors", "pickle"), parts, strict=False)))


def seeds(container: str) -> list[bytes]:
    """Sound inputs, and the catalogue's bad files of about this kind."""
    from r2convert.selftest import specimens
    from r2convert.selftest.bad_files import bad_files

    values = {"a": [1, 2.5, None, True, ("x", b"y" * 300)], 3: -1, "long": 1 << 70, "nested": {"b": {"c": []}}}
    plain = [pickle.dumps(values, protocol=protocol) for protocol in (2, 3, 4)]
    sound = {
        "torch-zip": [specimens.torch_zip()],
        "torch-zip-pickle": [specimens.sound_state_dict(), *plain],
        "torch-legacy": [specimens.torch_legacy()],
        "torch-tar": [specimens.tar(specimens.torch_tar_members())],
        "torch-tar-members": [b"CUT".join(specimens.torch_tar_members().values())],
        "torch-hub-zip": [specimens.torch_hub_zip()],
        "safetensors": [specimens.safetensors()],
        "pdparams": [specimens.pdparams(), specimens.pdparams([("w", specimens.numpy_array(as_text=True))])],
        "paddle-static": [specimens.tar({"w": specimens.lod_tensor()})],
        "paddle-static-variable": [specimens.lod_tensor()],
    }
    made = (bad_file.make() for bad_file in bad_files())
    return sound[container] + [data for data in made if len(data) <= LONGEST_INPUT]


def fuzz(container: str, executions: int, corpus: Path) -> None:
    """Fuzz one container in this process; libFuzzer ends the process when it is done."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["r2convert"]):
        from r2convert.checkpoint.open import open_checkpoint
        from r2convert.errors import R2ConvertError

        wrap, inputs = wrappers()[container], seeds(container)
    descriptor, name = tempfile.mkstemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108
    path = Path(name)

    def one_input(data: bytes) -> None:
        content = wrap(data)
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        started = time.perf_counter()
        try:
            with open_checkpoint(path) as checkpoint:
                checkpoint.verify_records()
                for tensor in checkpoint.tensors.values():
                    for _ in checkpoint.chunks(tensor):
                        if time.perf_counter() - started > TIME_LIMIT:
                            break  # an expanded tensor may be large; each chunk of it is quick
        except R2ConvertError:
            pass

    for index, seed in enumerate(inputs):
        (corpus / f"seed-{index:03}").write_bytes(seed)
    options = [f"-runs={executions}", f"-max_len={LONGEST_INPUT}", f"-timeout={TIME_LIMIT + 1}"]
    options += [f"-rss_limit_mb={MEMORY_LIMIT}", f"-artifact_prefix={corpus.parent}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    try:
        atheris.Fuzz()
    finally:
        path.unlink()


def main() -> None:
    """Fuzz one container here, or each in a process of its own."""
    parser = argparse.ArgumentParser(description="Fuzz the checkpoint reader.")
    parser.add_argument("--container", choices=CONTAINERS)
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--corpus", type=Path, help="folder to keep inputs in (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.container:
        with tempfile.TemporaryDirectory() as temporary:
            corpus = (arguments.corpus or Path(temporary)) / arguments.container
            corpus.mkdir(parents=True, exist_ok=True)
            fuzz(arguments.container, arguments.executions, corpus)
        return
    failed = [
        name
        for name in CONTAINERS
        if subprocess.run([sys.executable, *sys.argv, "--container", name], check=False).returncode
    ]
    sys.exit(f"stopped early: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
