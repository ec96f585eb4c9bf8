"""Time and memory of loading at full size: this program beside transformers and sae-lens, same files, one run.

    python scripts/make_full_shape.py /tmp/full
    python benchmarks/loading.py /tmp/full

Every figure is of a fresh process that imported its libraries before the clock started; the files are read once
beforehand, so that all start from the same page cache. Three rows are this program's:

- model: `load_model` against `from_pretrained` of model and tokenizer, the same folder and dtype, and each with a
  first forward, which reads the weights that loading only maps;
- dictionaries: a later start, which maps the converted copies, against `SAE.from_pretrained` of the same dictionaries;
  *ready* is when they can be asked, *encoded* when each has encoded a token, which reads every encoder whole;
- all: model and dictionaries open and one fact read at every site, with the memory that takes beside the bytes mapped.

The floor of *ready* is opening the files; that of *encoded* is the encoders' bytes over the memory bandwidth measured
here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RELEASE = "gemma-scope-2b-pt-res-canonical"
REPOSITORY = "google/gemma-scope-2b-pt-res"
COMMIT = "0" * 40
Json = dict[str, Any]


# --- what each process does -----------------------------------------------------------------------------------------


def transformers_model(folder: Path) -> Json:
    return timed(lambda: from_pretrained(folder))


def from_pretrained(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer by plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = folder / "gemma-2-2b"
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16, attn_implementation="eager")
    return model, AutoTokenizer.from_pretrained(where)


def our_model(folder: Path) -> Json:
    import transformers  # noqa: F401

    from knowscope_tui.engine.loading import load_model

    return timed(lambda: load_model(str(folder / "gemma-2-2b"), device="cpu", dtype="bfloat16"))


def transformers_forward(folder: Path) -> Json:
    import torch

    @torch.no_grad()
    def run() -> Any:
        model, tokenizer = from_pretrained(folder)
        return model, tokenizer, model(torch.tensor([[2, 5, 6, 7]])).logits

    return timed(run)


def our_forward(folder: Path) -> Json:
    import torch
    import transformers  # noqa: F401

    from knowscope_tui.engine.loading import load_model

    @torch.no_grad()
    def run() -> Any:
        lm = load_model(str(folder / "gemma-2-2b"), device="cpu", dtype="bfloat16")
        return lm, lm.model(torch.tensor([[2, 5, 6, 7]])).logits

    return timed(run)


def sae_lens_dictionaries(_folder: Path) -> Json:
    import torch
    from sae_lens import SAE

    def encoded(saes: list[Any]) -> None:
        for sae in saes:
            sae.encode(torch.ones(1, sae.cfg.d_in))

    return timed(lambda: [SAE.from_pretrained(RELEASE, id) for id in ids()], encoded)


def our_dictionaries(_folder: Path) -> Json:
    import torch

    from knowscope_tui.core.dictionaries import DictionarySource
    from knowscope_tui.engine.dictionary import Dictionary, make_dictionary
    from knowscope_tui.engine.library import wanted
    from knowscope_tui.engine.shelf import converted, published

    def open_all() -> list[Dictionary]:
        entries = wanted([DictionarySource(release=RELEASE)], all_layers()).entries
        files = [published.obtain(entry, "bfloat16", on_progress=lambda *_: None) for entry in entries]
        parts = [converted.open_(file) for file in files]
        return [make_dictionary(part.spec, part.tensors) for part in parts]

    def encoded(dictionaries: list[Dictionary]) -> None:
        for dictionary in dictionaries:
            dictionary.encode(torch.ones(1, dictionary.d_in))

    return {**timed(open_all, encoded), "imports_sae_lens": "sae_lens" in sys.modules}


def our_conversion(_folder: Path) -> Json:
    """The first start: what `SAE.from_pretrained` does, and converting and keeping what comes out."""
    import sae_lens  # noqa: F401

    from knowscope_tui.session import shelf

    return timed(lambda: shelf.pull(RELEASE, all_layers()))


def our_reading(folder: Path) -> Json:
    import transformers  # noqa: F401

    import knowscope_tui

    def run() -> Any:
        scope = knowscope_tui.open(
            str(folder / "gemma-2-2b"), sae=[RELEASE], layers=all_layers().layers, device="cpu", dtype="bfloat16"
        )
        scope.probe("The capital of France is", "Paris")
        return scope

    result = timed(run)
    plan = result.pop("kept").info.plan
    mapped = sum(need.bytes for need in plan.needs if need.what == "model" or need.place.value == "mapped")
    return {**result, "mapped": mapped}


TASKS: dict[str, Callable[[Path], Json]] = {
    name: task
    for name, task in globals().items()
    if name.startswith(("transformers_", "our_", "sae_lens_")) and callable(task)
}


ONCE = ("our_conversion", "our_reading")
"""Tasks that are run once: the first start, and one whose memory is what is asked."""


def timed(run: Callable[[], Any], after: Callable[[Any], None] | None = None) -> Json:
    """Seconds of `run`, of `run` and `after`, and the most memory this process has had."""
    start = time.perf_counter()
    kept = run()
    ready = time.perf_counter() - start
    if after is not None:
        after(kept)
    return {"ready": ready, "encoded": time.perf_counter() - start, "peak": peak(), "kept": kept}


def peak() -> int:
    """The most resident memory so far, bytes; pages of mapped files count."""
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line[1]) * 1024 if line else 0


def all_layers() -> Any:
    """The layers that the folder has dictionaries for, as a choice."""
    from knowscope_tui.core.dictionaries import Choice

    return Choice(layers=(0, int(os.environ["KNOWSCOPE_BENCH_LAYERS"]) - 1))


def ids() -> list[str]:
    return [f"layer_{layer}/width_16k/canonical" for layer in range(int(os.environ["KNOWSCOPE_BENCH_LAYERS"]))]


# --- running them ---------------------------------------------------------------------------------------------------


def environment(folder: Path, work: Path) -> tuple[dict[str, str], int]:
    """An environment in which the hub's cache holds the folder's dictionaries, and their number."""
    repository = work / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    source = folder / "gemma-scope-2b-pt-res"
    snapshot.symlink_to(source.absolute(), target_is_directory=True)
    layers = len(list(source.glob("layer_*")))
    extra = {
        "HF_HUB_CACHE": str(work / "hub"),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(work / "cache"),
        "KNOWSCOPE_BENCH_LAYERS": str(layers),
    }
    return {**os.environ, **extra}, layers


def in_process(task: str, folder: Path, env: dict[str, str]) -> Json:
    """What `task` measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--task", task], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{task} failed:\n{done.stderr[-2000:]}")
    result: Json = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def bandwidth() -> float:
    """Bytes a second that this machine reads from memory: the best of several sums over 1 GB."""
    import torch

    block = torch.ones(1 << 28)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        best = max(best, block.nbytes / (time.perf_counter() - start))
    return best


def warm(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


def medians(tasks: list[str], folder: Path, env: dict[str, str], repeat: int) -> dict[str, Json]:
    """The median of each figure over `repeat` rounds, in each of which every task runs once."""
    rounds = [{task: in_process(task, folder, env) for task in tasks} for _ in range(repeat)]
    return {
        task: {key: statistics.median(r[task][key] for r in rounds) for key in rounds[0][task] if key != "kept"}
        for task in tasks
    }


def report(found: dict[str, Json], speed: float) -> Json:
    model, ours = found["transformers_model"], found["our_model"]
    forward, our_forward = found["transformers_forward"], found["our_forward"]
    peers, mine, whole = found["sae_lens_dictionaries"], found["our_dictionaries"], found["our_reading"]
    return {
        "model": {
            "seconds_ratio": ours["ready"] / model["ready"],
            "peak_ratio": ours["peak"] / model["peak"],
            "forward_seconds_ratio": our_forward["ready"] / forward["ready"],
            "forward_peak_ratio": our_forward["peak"] / forward["peak"],
        },
        "dictionaries": {
            "ready_speedup": peers["ready"] / mine["ready"],
            "encoded_speedup": peers["encoded"] / mine["encoded"],
            "peak_saving": peers["peak"] / mine["peak"],
        },
        "all": {"peak_over_mapped": whole["peak"] / whole["mapped"]},
        "bandwidth": speed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what scripts/make_full_shape.py made")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        result = TASKS[options.task](options.folder)
        result.pop("kept", None)
        print(json.dumps(result))
        return
    work = Path(tempfile.mkdtemp(prefix="knowscope-loading-"))
    try:
        env, layers = environment(options.folder, work)
        warm(options.folder)
        first = in_process("our_conversion", options.folder, env)
        warm(work / "cache")
        found = medians([task for task in TASKS if task not in ONCE], options.folder, env, options.repeat)
        found |= {"our_conversion": first, "our_reading": in_process("our_reading", options.folder, env)}
        ratios = report(found, bandwidth())
    finally:
        shutil.rmtree(work)
    if options.json:
        print(json.dumps({"layers": layers, "tasks": found, **ratios}, indent=2))
        return
    print(f"{layers} dictionaries, medians of {options.repeat}\n\n{'':24}{'ready':>10}{'encoded':>10}{'peak':>10}")
    for task, row in found.items():
        print(f"{task:24}{row['ready']:8.2f} s{row['encoded']:8.2f} s{row['peak'] / 1e9:7.2f} GB")
    for part in ("model", "dictionaries", "all"):
        print(f"\n{part}: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios[part].items()))
    print(f"\nmemory bandwidth {ratios['bandwidth'] / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
