"""Makes random weights in the shape of Gemma-2-2B, with Gemma Scope's 16k dictionaries, to measure the program on.

python scripts/make_full_shape.py /tmp/full                               # 5.2 GB of model, 7.9 GB of dictionaries
python scripts/make_full_shape.py /tmp/full --dictionaries 2 --force      # the model, with dictionaries of layers 0, 1
python scripts/make_full_shape.py /tmp/small --shape small                # 0.6 GB in all

The weights know nothing: they are for measuring seconds and bytes where the real ones cannot be had. What is written:

- OUT/gemma-2-2b: a Hugging Face folder in bfloat16, its shards and their index cut as transformers cuts them (at 5 GB).
  The tokenizer is the demo's, filled up to the model's vocabulary with words that it never reads and can write, so
  that each token id has a spelling; it has far fewer merges than Gemma's own.
- OUT/gemma-scope-2b-pt-res/layer_L/width_16k/average_l0_X/params.npz: float32, with the X of the canonical release.
  A feature is scaled so that about X of them fire at a token of these random weights.

Memory: tensors are streamed to the disk, so that the whole model never is in memory; the most is one dictionary.

The numbers are not all drawn. A block of normal numbers is (from the seed), and tensors take theirs one after the
other from that block, repeated without end (see `knowscope_tui/bench/noise.py`). Dictionaries have a block of their
own, so that no feature is a row of the model.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Gemma2ForCausalLM, GenerationConfig

from knowscope_tui.bench.noise import Noise, normals
from knowscope_tui.bench.random_model import STD, gemma_config, write_tokenizer
from knowscope_tui.bench.shapes import SHAPES, Shape

MODEL, DICTIONARIES, NOTE = "gemma-2-2b", "gemma-scope-2b-pt-res", "made_by_make_full_shape.json"
MAX_SHARD = 5 * 10**9
SPARE = 10**9
"""Bytes of the disk that are left to others."""
CANONICAL_L0 = (
    *(105, 102, 141, 59, 124, 68, 70, 69, 71, 73, 77, 80, 82),
    *(84, 84, 78, 78, 77, 74, 73, 71, 70, 72, 75, 73, 116),
)
"""Of layers 0 to 25 of gemma-scope-2b-pt-res-canonical at 16k, as in sae-lens's pretrained_saes.yaml."""


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return 2 * self.count


def model_noise(seed: int) -> Noise:
    """Normal numbers of `STD` as the bits of bfloat16, which NumPy does not know."""
    return Noise(normals(seed, 0).mul_(STD).to(torch.bfloat16).view(torch.int16))


def tensors_of(config: Any) -> list[Tensor]:
    """What a checkpoint of `config` holds, asked of a model without memory."""
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config)
    return [Tensor(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]


def cut(tensors: list[Tensor]) -> list[list[Tensor]]:
    """`tensors` in shards of at most `MAX_SHARD` bytes."""
    shards: list[list[Tensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(other.bytes for other in shards[-1]) + tensor.bytes > MAX_SHARD:
            shards.append([])
        shards[-1].append(tensor)
    return shards


def safetensors_header(tensors: list[Tensor]) -> bytes:
    """What goes before the data: its own length in 8 bytes, and JSON filled up to a multiple of 8 bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        end = start + tensor.bytes
        header[tensor.name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensor(file: BinaryIO, tensor: Tensor, noise: Noise) -> None:
    """Norms are 0, for Gemma multiplies with 1 + weight."""
    if len(tensor.shape) == 1:
        file.write(bytes(tensor.bytes))
        return
    for piece in noise.pieces(tensor.count):
        file.write(piece.numpy().data)


def write_weights(folder: Path, tensors: list[Tensor], noise: Noise) -> None:
    shards = cut(tensors)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        started = time.perf_counter()
        with (folder / name).open("wb") as file:
            file.write(safetensors_header(shard))
            for tensor in shard:
                write_tensor(file, tensor, noise)
                places[tensor.name] = name
        report(folder / name, started)
    total = {"total_parameters": sum(t.count for t in tensors), "total_size": sum(t.bytes for t in tensors)}
    index = {"metadata": total, "weight_map": dict(sorted(places.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def write_model(folder: Path, shape: Shape, tensors: list[Tensor], seed: int) -> None:
    folder.mkdir()
    config = gemma_config(shape)
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    write_tokenizer(folder, shape.vocabulary)
    write_weights(folder, tensors, model_noise(seed))


def feature_scale(shape: Shape, layer: int) -> float:
    """By how much a unit row is scaled for about the canonical L0 of the features to pass a threshold of 1.

    With these weights each of attention and MLP adds a vector of variance 1 to the embedding's of hidden × STD², so
    that the residual stream after layer L has the variance below, and so has its product with a random unit row.
    """
    variance = shape.hidden * STD**2 + 2 * (layer + 1)
    deviations = statistics.NormalDist().inv_cdf(1 - CANONICAL_L0[layer] / shape.width)
    return 1 / (deviations * math.sqrt(variance))


def write_dictionary(path: Path, shape: Shape, layer: int, noise: Noise) -> None:
    """Gemma Scope's arrays, of which `W_enc` is [hidden, width] and `W_dec` [width, hidden]."""
    started = time.perf_counter()
    decoder: NDArray[np.float32] = noise.take(shape.width, shape.hidden).numpy()
    decoder /= np.sqrt(np.einsum("ij,ij->i", decoder, decoder))[:, None]
    encoder = np.empty((shape.hidden, shape.width), dtype=np.float32)
    np.multiply(decoder.T, feature_scale(shape, layer), out=encoder)
    path.parent.mkdir(parents=True)
    np.savez(
        path,
        W_enc=encoder,
        W_dec=decoder,
        b_enc=0.01 * noise.take(shape.width).numpy(),
        b_dec=0.01 * noise.take(shape.hidden).numpy(),
        threshold=np.clip(1 + 0.05 * noise.take(shape.width).numpy(), 0.5, 1.5),
    )
    report(path, started)


def dictionary_path(folder: Path, layer: int, width: int) -> Path:
    return folder / f"layer_{layer}" / f"width_{width // 1000}k" / f"average_l0_{CANONICAL_L0[layer]}" / "params.npz"


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def report(path: Path, started: float) -> None:
    size, seconds = path.stat().st_size, time.perf_counter() - started
    print(f"{path}   {size / 1e9:.2f} GB   {seconds:.1f} s", flush=True)


def make_room(out: Path, force: bool, needed: int) -> None:
    """Leaves `out` an empty folder on a disk with room, or stops with what to do.

    What another run of this script made is deleted if `force`, and nothing else ever is.
    """
    made = [path for path in (out / MODEL, out / DICTIONARIES) if path.exists()]
    if out.exists() and not out.is_dir():
        raise SystemExit(f"{out} is a file. Name a folder.")
    if made and not (out / NOTE).is_file():
        raise SystemExit(f"{made[0]} was not made by this script. Name another folder.")
    if made and not force:
        raise SystemExit(f"{made[0]} exists. Pass --force to replace it, or name another folder.")
    home = next(folder for folder in (out, *out.parents) if folder.exists())
    freed = sum(file.stat().st_size for folder in made for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(home).free + freed
    if free < needed + SPARE:
        raise SystemExit(
            f"{needed / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free. Name another disk."
        )
    for folder in made:
        shutil.rmtree(folder)
    out.mkdir(parents=True, exist_ok=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to")
    parser.add_argument("--shape", choices=("2b", "small"), default="2b")
    parser.add_argument("--layers", type=int, metavar="N", help="layers of the model, in place of the shape's")
    parser.add_argument("--width", type=int, metavar="N", help="features of a dictionary, in place of the shape's")
    parser.add_argument("--dictionaries", type=int, metavar="N", help="of the first N layers; default: of every layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace what an earlier run wrote to OUT")
    chosen = parser.parse_args()
    shape = SHAPES[chosen.shape]
    chosen.layers = shape.layers if chosen.layers is None else chosen.layers
    chosen.width = shape.width if chosen.width is None else chosen.width
    chosen.dictionaries = chosen.layers if chosen.dictionaries is None else chosen.dictionaries
    if not 1 <= chosen.layers <= len(CANONICAL_L0):
        parser.error(f"--layers is 1 to {len(CANONICAL_L0)}")
    if chosen.width < 1000:
        parser.error("--width is at least 1000")
    if not 0 <= chosen.dictionaries <= chosen.layers:
        parser.error(f"--dictionaries is 0 to the number of layers, {chosen.layers}")
    if chosen.seed < 0:
        parser.error("--seed is not negative")
    return chosen


def main() -> None:
    chosen = arguments()
    started = time.perf_counter()
    shape = replace(SHAPES[chosen.shape], layers=chosen.layers, width=chosen.width)
    tensors = tensors_of(gemma_config(shape))
    model = sum(tensor.bytes for tensor in tensors)
    needed = model + chosen.dictionaries * 4 * (2 * shape.width * shape.hidden + 2 * shape.width + shape.hidden)
    make_room(chosen.out, chosen.force, needed)
    print(f"{sum(t.count for t in tensors):,} parameters, {needed / 1e9:.1f} GB to write", flush=True)
    note = {"seed": chosen.seed, "dictionaries": chosen.dictionaries, **asdict(shape)}
    write_json(chosen.out / NOTE, note)
    write_model(chosen.out / MODEL, shape, tensors, chosen.seed)
    noise = Noise(normals(chosen.seed, 1))
    for layer in range(chosen.dictionaries):
        write_dictionary(dictionary_path(chosen.out / DICTIONARIES, layer, shape.width), shape, layer, noise)
    print(f"Made {chosen.out} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
