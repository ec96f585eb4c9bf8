"""Saving at full size beside `save_pretrained`, and saves that are killed: same files, same disk, one run.

    python scripts/make_full_shape.py /tmp/full --dictionaries 1
    python benchmarks/saving.py /tmp/full/gemma-2-2b
    python benchmarks/saving.py knowscope_tui/demo/bundle/model --kills 200

One layer's `down_proj` is edited at 1 % of its entries. Each save runs in a fresh process; the rows are ours with
links, ours with copies (`--copy`), and `save_pretrained` of the loaded model, which is not charged for loading. Written
bytes are those that the process passed to the file system (`/proc/self/io`), memory the growth of its peak. The floor
is the written bytes over the disk's bandwidth, measured here with the same fsync.

`--kills N` saves N times in a process that is killed at a random moment: afterwards the target must be absent, or load
as the whole edit, and the next save must leave nothing of the killed ones behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("linked", "copied", "save_pretrained")


def changes(base: Path) -> list[Any]:
    """One layer's `down_proj`, 1 % of its entries set to zero."""
    import torch

    from knowscope_tui.engine.deltas.change import SparseChange
    from knowscope_tui.engine.saving.stored import tensors_in

    stored = next(tensor for name, tensor in sorted(tensors_in(base).items()) if "down_proj" in name)
    entries = stored.shape[0] * stored.shape[1]
    places = torch.arange(0, entries, 100)
    return [SparseChange(stored.name, stored.shape, places, torch.zeros(len(places), dtype=stored.read().dtype))]


def save(base: Path, target: Path, *, link: bool) -> None:
    from knowscope_tui.core.saved import SaveOptions
    from knowscope_tui.engine.saving.save import save as save_edit

    record = {"base_name": str(base), "edits": []}
    save_edit(str(base), changes(base), record, "", target, SaveOptions(link=link), lambda _doing, _fraction: None)


def timed(base: Path, target: Path, way: str) -> dict[str, float]:
    """Seconds, bytes written and growth of the peak memory of one save, in this process."""
    import torch

    model = None
    if way == "save_pretrained":
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        for parameter in model.parameters():
            parameter.sum()  # What loading only mapped is read.
    else:
        import knowscope_tui.engine.saving.save  # noqa: F401
    written, peak = bytes_written(), peak_memory()
    start = time.perf_counter()
    if model is not None:
        model.save_pretrained(target)
        os.sync()
    else:
        save(base, target, link=way == "linked")
    return {
        "seconds": time.perf_counter() - start,
        "written": bytes_written() - written,
        "memory": peak_memory() - peak,
    }


def bytes_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bandwidth(folder: Path, size: int = 1 << 30) -> float:
    """Bytes a second that this disk takes in one file, fsync included."""
    block = os.urandom(1 << 24)
    file = folder / "bandwidth"
    start = time.perf_counter()
    with file.open("wb") as out:
        for _ in range(size // len(block)):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    seconds = time.perf_counter() - start
    file.unlink()
    return size / seconds


def compare(base: Path, where: Path, repeats: int) -> None:
    for shard in sorted(base.glob("*.safetensors")):
        shard.read_bytes()
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            target = where / f"saved-{way}"
            words = [sys.executable, __file__, str(base), "--one", way, "--target", str(target)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            rows[way].append(json.loads(done.stdout.splitlines()[-1]))
            shutil.rmtree(target)
    rate = bandwidth(where)
    plain = statistics.median(row["seconds"] for row in rows["save_pretrained"])
    whole = statistics.median(row["written"] for row in rows["save_pretrained"])
    print(f"disk {rate / 1e6:,.0f} MB/s; medians of {repeats}")
    for way, own in rows.items():
        seconds, written, memory = (
            statistics.median(row[key] for row in own) for key in ("seconds", "written", "memory")
        )
        print(
            f"{way:<16} {seconds:7.2f} s  {plain / seconds:6.1f} x   {written / 1e6:9,.0f} MB written "
            f"({written / max(whole, 1):.2f})   floor {written / rate:6.2f} s   memory + {memory / 1e6:,.0f} MB"
        )


def kill(base: Path, where: Path, times: int) -> None:
    """Saves that are killed; the process ends with an error when a target is neither absent nor whole."""
    from knowscope_tui.engine.saving.saved import problems, read

    rng = random.Random(0)
    words = [sys.executable, __file__, str(base), "--one", "copied", "--target"]
    usual = duration([*words, str(where / "warm")])
    shutil.rmtree(where / "warm")
    absent = whole = 0
    for number in range(times):
        target = where / f"killed-{number}"
        child = subprocess.Popen([*words, str(target)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()  # It begins to save now.
        time.sleep(rng.uniform(0, usual * 1.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        if not target.exists():
            absent += 1
            continue
        wrong = problems(read(target), str(base))
        if wrong:
            raise SystemExit(f"after kill {number}: {wrong}")
        whole += 1
        shutil.rmtree(target)
    left = len(list(where.glob(".killed-*")))
    for number in range(times):
        if not (where / f"killed-{number}").exists() and list(where.glob(f".killed-{number}.*")):
            save(base, where / f"killed-{number}", link=False)
    remains = len(list(where.glob(".killed-*")))
    print(f"{times} kills: {absent} without a target, {whole} whole; {left} unfinished folders, {remains} later")
    if remains:
        raise SystemExit("Something of a killed save stayed.")


def duration(words: list[str]) -> float:
    """Seconds of the save alone, as the child tells them."""
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="a model folder")
    parser.add_argument("--where", type=Path, help="a folder on the disk to save to; default: beside the model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        import knowscope_tui.engine.saving.save  # noqa: F401

        print("saving", flush=True)
        print(json.dumps(timed(asked.base, asked.target, asked.one)))
        return
    with tempfile.TemporaryDirectory(dir=asked.where or asked.base.parent) as folder:
        if asked.kills:
            kill(asked.base, Path(folder), asked.kills)
        else:
            compare(asked.base, Path(folder), asked.repeats)


if __name__ == "__main__":
    main()
