"""Small checkpoints made by hand, sound or deliberately not: what the self-test and the tests feed the reader.

Each function takes the parts that can be wrong as arguments and gives a sound file without any.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

from r2convert.checkpoint.formats.torch_legacy import MAGIC
from r2convert.checkpoint.pickles.pickle_output import global_name, integer, integers, text

#: Twelve float32 numbers.
FLOATS: Final = struct.pack("<12f", *range(12))
#: One int64 number.
COUNT: Final = struct.pack("<q", 7)
#: The sound state dict's tensors, by name: element type, shape, bytes.
SOUND: Final = {"conv.weight": ("float32", (3, 4), FLOATS), "bn.num_batches_tracked": ("int64", (), COUNT)}


def storage_id(key: str, elements: int, storage: str = "FloatStorage", *, view: bytes | None = None) -> bytes:
    """Pickle torch's persistent id of a storage; ``view`` is the legacy format's sixth part."""
    start = b"(" + text("storage") + global_name("torch", storage)
    return start + text(key) + text("cpu") + integer(elements) + (view or b"") + b"tQ"


def tensor(
    storage: bytes, shape: Sequence[int] = (3, 4), strides: Sequence[int] = (4, 1), offset: bytes | None = None
) -> bytes:
    """Pickle torch's description of a tensor in a storage."""
    place = integer(0) if offset is None else offset
    flags = b"\x89" + global_name("collections", "OrderedDict") + b")R"
    rebuild = global_name("torch._utils", "_rebuild_tensor_v2")
    return rebuild + b"(" + storage + place + integers(shape) + integers(strides) + flags + b"tR"


def dictionary(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """Pickle a dictionary of texts to pickled values, without the opcodes around a whole pickle."""
    return b"}(" + b"".join(text(name) + value for name, value in entries) + b"u"


def pickled(value: bytes) -> bytes:
    """Make a whole pickle (protocol 2) of a pickled value."""
    return b"\x80\x02" + value + b"."


def sound_state_dict(*, legacy: bool = False) -> bytes:
    """Pickle the sound state dict as torch does."""
    view = b"N" if legacy else None
    weight = tensor(storage_id("0", 12, view=view))
    count = tensor(storage_id("1", 1, "LongStorage", view=view), (), ())
    return pickled(dictionary([("conv.weight", weight), ("bn.num_batches_tracked", count)]))


def torch_zip(
    pickle: bytes | None = None,
    data: Mapping[str, bytes] | None = None,
    *,
    byteorder: bytes = b"little",
    more: Sequence[tuple[str, bytes]] = (),
    compression: int = zipfile.ZIP_STORED,
    folder: str = "archive",
) -> bytes:
    """Make a torch zip checkpoint; records may be given twice through ``more``."""
    payloads = {"0": FLOATS, "1": COUNT} if data is None else data
    records = [("data.pkl", sound_state_dict() if pickle is None else pickle), ("byteorder", byteorder)]
    records += [(f"data/{key}", payload) for key, payload in payloads.items()]
    records += [("version", b"3\n"), *more]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, payload in records:
            record = zipfile.ZipInfo(f"{folder}/{name}")
            record.compress_type = compression
            _write_record(archive, record, payload)
    return file.getvalue()


def _write_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo, payload: bytes) -> None:
    """Write a record even if its name is there already, which `zipfile` would warn about."""
    known = archive.NameToInfo.pop(record.filename, None)
    archive.writestr(record, payload)
    if known is not None:
        archive.NameToInfo[record.filename] = known


def torch_legacy(
    pickle: bytes | None = None,
    keys: Sequence[str] = ("0", "1"),
    storages: Sequence[tuple[int, bytes]] = ((12, FLOATS), (1, COUNT)),
    *,
    little_endian: bool = True,
    version: int = 1001,
) -> bytes:
    """Make a legacy torch checkpoint; ``storages`` are the stated numbers of elements and the bytes."""
    information = dictionary(
        [
            ("protocol_version", integer(1001)),
            ("little_endian", b"\x88" if little_endian else b"\x89"),
            ("type_sizes", dictionary([("short", integer(2)), ("int", integer(4)), ("long", integer(4))])),
        ]
    )
    key_list = b"](" + b"".join(map(text, keys)) + b"e"
    root = sound_state_dict(legacy=True) if pickle is None else pickle
    head = MAGIC + pickled(integer(version)) + pickled(information) + root + pickled(key_list)
    return head + b"".join(struct.pack("<q", count) + payload for count, payload in storages)


def torch_tar_members(*, first: int = 0, elements: int = 12) -> dict[str, bytes]:
    """Make the three members of a torch 0.1 checkpoint with one tensor."""
    entry = b"(" + integer(1) + text("cpu") + global_name("torch", "FloatStorage") + b"t"
    storages = pickled(integer(1)) + pickled(entry) + struct.pack("<q", elements) + FLOATS + pickled(b"]")
    described = b"(" + integer(2) + integer(1) + global_name("torch", "FloatTensor") + b"t"
    geometry = struct.pack("<ii2q2qq", 2, 0, 3, 4, 4, 1, first)
    root = pickled(dictionary([("conv.weight", text("2") + b"Q")]))
    return {"storages": storages, "tensors": pickled(integer(1)) + pickled(described) + geometry, "pickle": root}


def tar(members: Mapping[str, bytes], *, kind: bytes = tarfile.REGTYPE, link: str = "", twice: str = "") -> bytes:
    """Make a tar archive; ``kind`` and ``link`` are those of its last member, ``twice`` is added again."""
    names = [*members, *([twice] if twice else [])]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.USTAR_FORMAT) as archive:
        for index, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = len(members[name])
            if index == len(names) - 1:
                member.type, member.linkname = kind, link
            archive.addfile(member, io.BytesIO(members[name]))
    return file.getvalue()


def torch_hub_zip(member: bytes | None = None, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Make a torch.hub zip: one member, an old checkpoint."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        record = zipfile.ZipInfo("model.pth")
        record.compress_type = compression
        archive.writestr(record, torch_legacy() if member is None else member)
    return file.getvalue()


def safetensors(header: Mapping[str, object] | bytes | None = None, buffer: bytes = FLOATS + COUNT) -> bytes:
    """Make a safetensors file; a header given as bytes is taken as it is."""
    sound = {
        "conv.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "bn.num_batches_tracked": {"dtype": "I64", "shape": [], "data_offsets": [48, 56]},
    }
    encoded = header if isinstance(header, bytes) else json.dumps(sound if header is None else header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + buffer


def lod_tensor(
    dimensions: Sequence[int] = (3, 4),
    payload: bytes = FLOATS,
    *,
    kind: int = 5,
    levels: int = 0,
    description: bytes | None = None,
    description_size: int | None = None,
) -> bytes:
    """Make a Paddle 1.x variable; dimensions are encoded as Paddle does, one field each."""
    fields = b"\x08" + variable_length(kind)
    fields += b"".join(b"\x10" + variable_length(length) for length in dimensions)
    described = fields if description is None else description
    size = len(described) if description_size is None else description_size
    return struct.pack("<IQIi", 0, levels, 0, size) + described + payload


def variable_length(number: int) -> bytes:
    """Encode a number as protobuf does."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def numpy_array(
    payload: bytes = FLOATS, shape: Sequence[int] = (3, 4), code: str = "f4", *, order: str = "<", as_text: bool = False
) -> bytes:
    """Pickle a NumPy array; ``as_text`` is Python 3's way under protocol 2."""
    reconstruct = global_name("numpy.core.multiarray", "_reconstruct") + global_name("numpy", "ndarray")
    kind = global_name("numpy", "dtype") + text(code) + b"\x89\x88\x87R(K\x03" + text(order) + b"NNN"
    kind += (b"J" + struct.pack("<i", -1)) * 2 + b"K\x00tb"
    data = b"B" + struct.pack("<I", len(payload)) + payload
    if as_text:
        data = global_name("_codecs", "encode") + text(payload.decode("latin-1")) + text("latin1") + b"\x86R"
    state = b"(K\x01" + integers(shape) + kind + b"\x89" + data + b"t"
    return reconstruct + integers((0,)) + b"C\x01b\x87R" + state + b"b"


def pdparams(entries: Sequence[tuple[str, bytes]] | None = None) -> bytes:
    """Make a `.pdparams` file of pickled values."""
    sound = [("conv.weight", numpy_array()), ("bn.num_batches_tracked", numpy_array(COUNT, (), "i8"))]
    return pickled(dictionary(sound if entries is None else entries))
