"""Make the corpus of tests: small real files, each written by a real program of a stated version.

    python -m scripts.make_corpus [PROGRAM ...] [--python PROGRAM=INTERPRETER]

Every program runs in an environment of its own, made for the purpose, or under an interpreter that has its packages.
Beside the files, `tests/corpus/<program>/written.json` says what was written, as the program itself sees it: the
tensors by name, with element type, shape and the SHA-256 of their elements in C order, little-endian; none where the
file is to be refused. `tests/corpus/test_corpus.py` reads them all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
BAD_FILES = ROOT / "r2convert" / "selftest" / "data"
"""Where the files of the self-test's catalogue lie that torch itself has to write."""

PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "torch-1.13": ("torch", ["torch==1.13.1", "numpy<2"]),
    "torch-2.1": ("torch", ["torch==2.1.2", "numpy<2", "setuptools<80"]),
    "torch-2.6": ("torch", ["torch==2.6.0", "numpy"]),
    "torch-2.13": ("torch", ["torch==2.13.0", "numpy"]),
    "timm": ("timm", ["torch==2.6.0", "torchvision==0.21.0", "timm"]),
    "lightning": ("lightning", ["torch==2.6.0", "lightning"]),
    "mmengine": ("mmengine", ["torch==2.6.0", "mmengine", "opencv-python-headless"]),
    "accelerate": ("accelerate", ["torch==2.6.0", "accelerate"]),
    "safetensors": ("safetensors", ["torch==2.6.0", "safetensors", "numpy"]),
    "paddle": ("paddle", ["paddlepaddle==3.3.1"]),
    "paddle-program": ("paddle_program", ["paddlepaddle==3.3.1"]),
    "jittor": ("jittor", ["jittor", "torch==2.6.0"]),
    "selftest": ("selftest", ["torch==2.13.0", "numpy"]),
    "others": ("others", ["numpy", "onnx", "h5py", "msgpack"]),
}
"""By name: which writer below runs, and in an environment of what packages."""

ELEMENT_TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


# -- writers: each runs in its program's environment and imports nothing else -------------------------------


def torch_tensors(tensors: dict[str, Any]) -> dict[str, list[Any]]:
    """Describe torch tensors as they are, without the reader."""
    import torch

    described = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        data = bytes(plain.reshape(-1).view(torch.uint8).tolist()) if plain.numel() else b""
        described[name] = [str(tensor.dtype)[6:], list(tensor.shape), hashlib.sha256(data).hexdigest()]
    return described


def network() -> Any:
    """A network of two layers, as small as it can be and still have all kinds of tensors."""
    import torch

    torch.manual_seed(0)
    body = torch.nn.Sequential()
    body.add_module("conv1", torch.nn.Conv2d(3, 4, 3, bias=False))
    body.add_module("bn1", torch.nn.BatchNorm2d(4))
    return body


def write_torch(folder: Path, written: Callable[..., None]) -> None:
    """State dicts and what lies around them, in every container and protocol this torch writes."""
    import torch

    model = network()
    state = model.state_dict()
    plain = torch_tensors(state)

    def save(name: str, value: object, tensors: dict[str, list[Any]], **options: Any) -> None:
        torch.save(value, folder / name, **options)
        written(name, tensors)

    save("state_dict.pth", state, plain)
    save("legacy.pth", state, plain, _use_new_zipfile_serialization=False)
    save("protocol4.pth", state, plain, pickle_protocol=4)
    save("legacy_protocol4.pth", state, plain, pickle_protocol=4, _use_new_zipfile_serialization=False)
    save("module.pth", model, plain)
    save("parameters.pth", dict(model.named_parameters()), torch_tensors(dict(model.named_parameters())))
    _save_kinds(save)
    _save_training(save, model)
    torch.jit.save(torch.jit.script(model), folder / "scripted.pt")
    written("scripted.pt", {})


def _save_kinds(save: Callable[..., None]) -> None:
    """Element types, views, and tensors of kinds beside those of a network."""
    import torch

    kinds = {name: torch.arange(6).to(getattr(torch, name)).reshape(2, 3) for name in ELEMENT_TYPES}
    kinds.update(scalar=torch.tensor(3.5), empty=torch.zeros(0, 3))
    save("kinds.pth", kinds, torch_tensors(kinds))
    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "whole": base,
        "transposed": base.t(),
        "columns": base[:, 1:3],
        "expanded": base[:1].expand(3, 6),
        "every_other": base[::2, ::2],
        "imaginary": torch.complex(base, base + 1).imag.clone(),
    }
    if not torch.__version__.startswith("1."):  # which forgets on saving that a view is negated
        views["negated"] = torch.complex(base, base + 1).conj().imag
    save("views.pth", views, torch_tensors(views))
    save("views_legacy.pth", views, torch_tensors(views), _use_new_zipfile_serialization=False)
    beside = {"state_dict": {"w": base}, "complex": torch.ones(2, dtype=torch.complex64)}
    beside["sparse"] = torch.eye(3).to_sparse()
    beside["quantized"] = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    if hasattr(torch, "uint16"):  # the first versions with float8 could not save it
        beside["uint16"] = torch.zeros(2, dtype=torch.uint16)
        beside["float8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    save("unread_kinds_beside.pth", beside, torch_tensors({"w": base}))
    save("unread_kind.pth", {"w": base, "z": torch.ones(2, dtype=torch.complex64)}, torch_tensors({"w": base}))


def _save_training(save: Callable[..., None], model: Any) -> None:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    parallel = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    plain = torch_tensors(model.state_dict())
    training = {
        "epoch": 3,
        "arch": "res2net50",
        "args": argparse.Namespace(lr=0.1, data=Path("data")),
        "best_acc1": torch.tensor(77.99),
        "state_dict": parallel,
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "device": torch.device("cpu"),
        "size": model.conv1.weight.size(),
        "dtype": torch.float16,
    }
    save("training.pth", training, plain)
    save("training_legacy.pth", training, plain, _use_new_zipfile_serialization=False)


def write_selftest(folder: Path, _: Callable[..., None]) -> None:
    """Files that torch writes and r2convert refuses: the self-test's catalogue says why."""
    import os

    import torch
    from torch.package.package_exporter import PackageExporter

    weight = torch.ones(2, 3)
    torch.save({"weight": weight, "after_loading": os.system}, folder / "os_system.pth")
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save({"weight": weight, "after_loading": eval}, folder / "eval_legacy.pth", **legacy)
    torch.save({"weight": torch.ones(2, dtype=torch.complex64)}, folder / "complex.pth")
    torch.save({"weight": torch.eye(3).to_sparse()}, folder / "sparse.pth")
    torch.save(weight, folder / "single_tensor.pth")
    torch.save([1, "a"], folder / "list.pth")
    torch.save({"student": {"w": weight, "b": weight}, "teacher": {"w": weight, "b": weight}}, folder / "two.pth")
    with PackageExporter(folder / "package.pt") as package:
        package.save_pickle("model", "weight.pkl", weight)
    torch.serialization.set_crc32_options(False)
    torch.save({"weight": weight}, folder / "cut.pth")
    os.truncate(folder / "cut.pth", (folder / "cut.pth").stat().st_size - 100)


def write_timm(folder: Path, written: Callable[..., None]) -> None:
    """What timm's training script leaves: its saver's checkpoint, with a moving average beside."""
    import timm
    import torch
    from timm.utils import CheckpointSaver, ModelEmaV3

    model = network()
    model.default_cfg = {"architecture": "res2net50"}
    average = ModelEmaV3(model, decay=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.conv1.weight.add_(1)
    average.update(model)
    arguments = argparse.Namespace(model="res2net50", lr=0.1, opt="sgd")
    saver = CheckpointSaver(model, optimizer, args=arguments, model_ema=average, checkpoint_dir=str(folder))
    saver.save_checkpoint(1, metric=77.0)
    for name in ("last.pth.tar", "model_best.pth.tar"):  # the same file again
        (folder / name).unlink(missing_ok=True)
    written("checkpoint-1.pth.tar", torch_tensors(model.state_dict()), by=f"timm {timm.__version__}")
    written("checkpoint-1.pth.tar#ema", torch_tensors(average.module.state_dict()), by=f"timm {timm.__version__}")


def write_lightning(folder: Path, written: Callable[..., None]) -> None:
    """A Lightning checkpoint with its loops, callbacks and hyper-parameters."""
    import lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 0.1, "args": argparse.Namespace(seed=1)})
            self.model = network()

        def training_step(self, batch: Any, _: int) -> Any:
            return self.model(batch).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=1, enable_checkpointing=False, **quiet)
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(2, 3, 4, 4)))
    trainer.save_checkpoint(folder / "epoch.ckpt")
    written("epoch.ckpt", torch_tensors(module.model.state_dict()), by=f"lightning {lightning.__version__}")


def write_mmengine(folder: Path, written: Callable[..., None]) -> None:
    """A checkpoint of mmengine's Runner with a moving average, which it swaps with the network on saving."""
    import mmengine
    import torch
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network()

        def forward(self, inputs: Any, mode: str) -> Any:  # noqa: ARG002 - the runner passes it
            return {"loss": self.backbone(inputs).sum()}

    with tempfile.TemporaryDirectory() as work:
        runner = Runner(
            Model(),
            work,
            train_dataloader=torch.utils.data.DataLoader([{"inputs": torch.ones(3, 4, 4)}]),
            train_cfg={"by_epoch": True, "max_epochs": 1},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
            custom_hooks=[{"type": "EMAHook", "momentum": 0.5}],
            log_level="ERROR",
        )
        model = runner.train()
        path = next(Path(work).glob("epoch_1.pth"))
        (folder / "epoch_1.pth").write_bytes(path.read_bytes())
    by = f"mmengine {mmengine.__version__}"
    raw = torch_tensors(model.state_dict())
    average = torch.load(folder / "epoch_1.pth", weights_only=False)
    written("epoch_1.pth", torch_tensors(average["state_dict"]), by=by)
    written("epoch_1.pth#ema_state_dict", raw, by=by)


def write_accelerate(folder: Path, written: Callable[..., None]) -> None:
    """A model that accelerate saves in shards with an index, and in one file."""
    import accelerate
    import torch

    model = torch.nn.Sequential(network(), torch.nn.Conv2d(4, 8, 3))
    by = f"accelerate {accelerate.__version__}"
    accelerator = accelerate.Accelerator(cpu=True)
    plain = torch_tensors(model.state_dict())
    accelerator.save_model(model, folder / "shards", max_shard_size="1KB")
    written("shards/model.safetensors.index.json", plain, by=by)
    accelerator.save_model(model, folder / "torch_shards", max_shard_size="1KB", safe_serialization=False)
    written("torch_shards/pytorch_model.bin.index.json", plain, by=by)
    accelerator.save_model(model, folder / "whole")
    written("whole/model.safetensors", plain, by=by)


def write_safetensors(folder: Path, written: Callable[..., None]) -> None:
    """Every element type that the library writes."""
    import safetensors
    import torch
    from safetensors.torch import save_file

    by = f"safetensors {safetensors.__version__}"
    kinds = {name: torch.arange(6).to(getattr(torch, name)).reshape(2, 3) for name in ELEMENT_TYPES}
    save_file(kinds, folder / "kinds.safetensors", metadata={"format": "pt", "note": "small"})
    written("kinds.safetensors", torch_tensors(kinds), by=by)
    unread = {"w": torch.ones(2, 3), "f8": torch.ones(2).to(torch.float8_e4m3fn), "u16": torch.ones(2).to(torch.uint16)}
    save_file(unread, folder / "unread_kinds.safetensors")
    written("unread_kinds.safetensors", torch_tensors({"w": unread["w"]}), by=by)


def write_paddle(folder: Path, written: Callable[..., None]) -> None:
    """Training checkpoints of Paddle under each protocol, and inference models, whose names are elsewhere."""
    import numpy as np
    import paddle

    by = f"paddle {paddle.__version__}"
    paddle.seed(0)
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3, bias_attr=False), paddle.nn.BatchNorm2D(4))
    plain = {}
    for name, tensor in model.state_dict().items():
        array = np.ascontiguousarray(tensor.numpy())
        plain[name] = [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    for protocol in (2, 3, 4):
        paddle.save(model.state_dict(), str(folder / f"protocol{protocol}.pdparams"), protocol=protocol)
        written(f"protocol{protocol}.pdparams", plain, by=by)
    optimizer = paddle.optimizer.Momentum(parameters=model.parameters())
    model(paddle.ones([1, 3, 4, 4])).sum().backward()
    optimizer.step()
    paddle.save({"model": model.state_dict(), "opt": optimizer.state_dict(), "epoch": 3}, str(folder / "all.pdparams"))
    trained = {}
    for name, tensor in model.state_dict().items():
        array = np.ascontiguousarray(tensor.numpy())
        trained[name] = [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    written("all.pdparams", trained, by=by)
    model.eval()
    spec = [paddle.static.InputSpec([1, 3, 4, 4], "float32")]
    paddle.jit.save(model, str(folder / "inference"), input_spec=spec)
    for name in sorted(path.name for path in folder.glob("inference.*")):
        written(name, {}, by=by)


def _blank_folders(path: Path) -> None:
    """Blank out where this ran, length kept: Paddle writes the call stack of every operator into the protobuf."""
    content = path.read_bytes()
    for folder in (sys.prefix, str(Path(__file__).resolve().parent.parent)):
        content = content.replace(folder.encode(), b"/" + b"-" * (len(folder.encode()) - 1))
    path.write_bytes(content)


def write_paddle_program(folder: Path, written: Callable[..., None]) -> None:
    """What Paddle before 3 writes: an inference model as a protobuf program, and a folder of variables."""
    import os

    os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - Paddle's spelling
    import numpy as np
    import paddle
    from paddle.static.io import save_vars

    by = f"paddle {paddle.__version__}, FLAGS_enable_pir_api=0"
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3, bias_attr=False), paddle.nn.BatchNorm2D(4))
    model.eval()
    spec = [paddle.static.InputSpec([1, 3, 4, 4], "float32")]
    paddle.jit.save(model, str(folder / "inference"), input_spec=spec)
    _blank_folders(folder / "inference.pdmodel")
    for name in ("inference.pdmodel", "inference.pdiparams"):
        written(name, {}, by=by)
    (folder / "inference.pdiparams.info").unlink()
    paddle.enable_static()
    program, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, start):
        image = paddle.static.data("image", [1, 3, 4, 4], "float32")
        paddle.static.nn.conv2d(image, 4, 3, bias_attr=False, name="conv1")
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(start)
        save_vars(executor, str(folder / "variables"), program, predicate=lambda value: value.name == "conv1.w_0")
        array = np.ascontiguousarray(paddle.static.global_scope().find_var("conv1.w_0").get_tensor())
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    written("variables", {"conv1.w_0": [str(array.dtype), list(array.shape), digest]}, by=by)


def write_jittor(folder: Path, written: Callable[..., None]) -> None:
    """Jittor's pickles of variables and of arrays, its checksum after them, and its imitation of torch's file."""
    import jittor as jt
    import numpy as np

    by = f"jittor {jt.__version__}"
    model = jt.nn.Sequential(jt.nn.Conv(3, 4, 3, bias=False), jt.nn.BatchNorm(4))
    plain = {}
    for name, variable in model.state_dict().items():
        array = np.ascontiguousarray(variable.numpy())
        plain[name] = [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    model.save(str(folder / "model.pkl"))
    model.save(str(folder / "model.pth"))
    jt.save({name: variable.numpy() for name, variable in model.state_dict().items()}, str(folder / "arrays.pkl"))
    for name in ("model.pkl", "model.pth", "arrays.pkl"):
        written(name, plain, by=by)


def write_others(folder: Path, written: Callable[..., None]) -> None:
    """Files of other programs, which are named and not read."""
    import h5py
    import msgpack
    import numpy as np
    import onnx

    weight = np.ones((2, 3), "float32")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])],
        [onnx.numpy_helper.from_array(weight, "conv1.weight")],
    )
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")
    written("model.onnx", {}, by=f"onnx {onnx.__version__}")
    with h5py.File(folder / "model.h5", "w") as file:
        file["conv1/weight"] = weight
    written("model.h5", {}, by=f"h5py {h5py.__version__}")
    np.savez(folder / "arrays.npz", **{"conv1.weight": weight})
    np.savez_compressed(folder / "compressed.npz", **{"conv1.weight": weight})
    np.save(folder / "array.npy", weight)
    for name in ("arrays.npz", "compressed.npz", "array.npy"):
        written(name, {}, by=f"numpy {np.__version__}")
    # Flax keeps an array as msgpack's extension 1: (shape, name of the type, bytes).
    array = msgpack.ExtType(1, msgpack.packb(((2, 3), "float32", weight.tobytes())))
    (folder / "flax.msgpack").write_bytes(msgpack.packb({"params": {"conv1": {"kernel": array}}}))
    written("flax.msgpack", {}, by=f"msgpack {msgpack.version}")


# -- running them -------------------------------------------------------------------------------------------


def write(writer: str, folder: Path) -> None:
    """Run one writer in this interpreter and note what it wrote."""
    notes: dict[str, dict[str, Any]] = {}

    def written(name: str, tensors: dict[str, list[Any]], by: str | None = None) -> None:
        notes[name] = {"by": by or _torch_version(), "tensors": tensors}

    globals()[f"write_{writer}"](folder, written)
    if notes:
        (folder / "written.json").write_text(json.dumps(notes, indent=1, sort_keys=True) + "\n")


def _torch_version() -> str:
    import torch

    return f"torch {torch.__version__.partition('+')[0]}"


def make(name: str, interpreter: Path | None) -> None:
    """Make one program's files, in an environment of its own unless an interpreter is given."""
    writer, packages = PROGRAMS[name]
    folder = BAD_FILES if name == "selftest" else CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="r2convert-corpus-") as place:
        if interpreter is None:
            venv.create(place, with_pip=True)
            interpreter = Path(place) / "bin" / "python"
            subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *packages], check=True)
        subprocess.run([str(interpreter), __file__, "--write", writer, str(folder)], check=True)


def main() -> None:
    """Make the files of the programs named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", choices=[*PROGRAMS, []], help="default: all")
    parser.add_argument("--python", action="append", default=[], metavar="PROGRAM=INTERPRETER")
    parser.add_argument("--write", nargs=2, metavar=("WRITER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write[0], Path(options.write[1]))
        return
    interpreters = dict(text.split("=", 1) for text in options.python)
    for name in options.programs or PROGRAMS:
        make(name, Path(interpreters[name]) if name in interpreters else None)


if __name__ == "__main__":
    main()
