"""What a file is, told by its bytes and not by its name: the names of downloads promise what is not in them."""

import json
import pathlib
import re
import zipfile

SAFETENSORS, TORCH, INDEX = "safetensors", "torch", "index"
"""Kinds of files that weights are read from: the last one lists the shards that hold them."""

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
}
_OTHERS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes; save the weights with the program's own code as .safetensors",
    b"\x93NUMPY": "a single NumPy array",
    b"GGUF": "a GGUF file of a language model",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
}
_TENSORFLOW_TABLE = bytes.fromhex("57fb808b247547db")  # the last bytes of a TensorFlow checkpoint's index
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_TEXT_PICKLE = re.compile(r"\(?[dl]p\d+\n|\(?c[\w.]+\n\w+\n")


def kind_of(path: pathlib.Path) -> str:
    """Return :data:`SAFETENSORS`, :data:`TORCH` or :data:`INDEX`.

    Raises:
      ValueError: for every other file: what it is, and what to do about it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(max(size - 64, 0))
        tail = file.read()
    if not head:
        raise ValueError("is empty: a download or a copy that broke off")
    if not any(head):
        raise ValueError("begins with nothing but zeros: a download that broke off, or a file of a full disk")
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if len(head) > 8 and head[8:9] == b"{" and 1 < int.from_bytes(head[:8], "little") < 1 << 32:
        if size < 8 + int.from_bytes(head[:8], "little"):
            raise ValueError("is a safetensors file that is cut off: a download or a copy that broke off")
        return SAFETENSORS
    if what := _other(head, tail):
        raise ValueError(f"is {what}")
    return _kind_of_text(path, head) if _is_text(head) else _kind_of_bytes(head)


def _kind_of_zip(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ValueError(
            "is cut off: it begins as PyTorch's files do (a ZIP archive) and lacks their end; a download or a copy "
            "that broke off"
        ) from None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ValueError(
            "is a TorchScript archive, a program and not weights alone. Where you trust its source, save the tensors "
            "alone: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
        )
    if "data.pkl" in inner:
        return TORCH
    if "model.weights.h5" in names:
        raise ValueError("is a Keras model; save its weights under PyTorch's or our names as .safetensors")
    if names and all(name.endswith(".npy") for name in names):
        raise ValueError(
            "is an archive of NumPy arrays (.npz); safetensors.numpy.save_file(dict(numpy.load(path)), "
            "'weights.safetensors') makes a file of weights of it"
        )
    held = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise ValueError(f"is a ZIP archive of {held or 'nothing'}; unpack it and name the file of weights in it")


def _other(head: bytes, tail: bytes) -> str:
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            return f"compressed ({name}); unpack it and name the file of weights in it"
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and name the file of weights in it"
    if head[4:8] == b"ftyp" or head[:4] == b"RIFF":
        return "a video"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite program"
    if tail.endswith(_TENSORFLOW_TABLE):
        return "the index of a TensorFlow checkpoint; TensorFlow's files are not read"
    # Protocol buffers: the version first, then who wrote it, or the MetaGraphDef.
    if head[:1] == b"\x08" and re.search(rb"onnx|pytorch|ir_version", head[:64]):
        return "an ONNX program; export the weights from PyTorch: torch.save(model.state_dict(), path)"
    if head[:3] == b"\x08\x01\x12" or b"tensorflow" in head:
        return "a TensorFlow graph; TensorFlow's files are not read"
    return ""


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", "strict" if len(head) < 1024 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _kind_of_text(path: pathlib.Path, head: bytes) -> str:
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    lowered = text.lower()
    if lowered.startswith("version https://git-lfs"):
        size = re.search(r"size (\d+)", text)
        full = f" of {int(size[1]):,} bytes" if size else ""
        raise ValueError(
            f"is a Git LFS pointer: {len(head)} bytes that stand for the file{full}. Get it with: git lfs pull"
        )
    if lowered.startswith(("<?xml", "<error")):
        message = re.search(r"<(?:Message|Code)>([^<]*)<", text, re.IGNORECASE)
        raise ValueError(f"is a server's answer in XML and no file of weights{_quoted(message and message[1])}")
    if lowered.startswith("<"):
        title = re.search(r"<title>([^<]*)<", text, re.IGNORECASE)
        raise ValueError(
            f"is a web page and no file of weights{_quoted(title and title[1])}: the link leads to a page with a "
            "button, or needs a login"
        )
    if text.startswith(("{", "[")):
        return _kind_of_json(path)
    if _TEXT_PICKLE.match(text):
        raise ValueError(
            "is a Python pickle and none of PyTorch's files. Making what is in it could run code; where you trust its "
            "source, save the arrays as .safetensors in the program that wrote it"
        )
    raise ValueError(f"is a text file and no file of weights{_quoted(text.splitlines()[0])}")


def _kind_of_json(path: pathlib.Path) -> str:
    text = path.read_text(errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("weight_map"), dict):
        return INDEX
    raise ValueError(f"is JSON and no file of weights{_quoted(text)}")


def _quoted(text: str | None) -> str:
    """Return the beginning of a text in brackets, to tell what the file is."""
    line = " ".join((text or "").split())
    return f' ("{line[:80]}{"..." if len(line) > 80 else ""}")' if line else ""


def _kind_of_bytes(head: bytes) -> str:
    if _PICKLE.match(head):
        return TORCH
    raise ValueError(
        f"is no file of weights: it begins with the bytes {head[:8].hex(' ')}, which is neither a safetensors file nor "
        "one of PyTorch's"
    )
