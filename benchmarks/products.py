"""What products in float32 and in bfloat16 cost on this machine: why `--dtype auto` takes what it takes on a CPU.

    python benchmarks/products.py [--runs 3] [--tries 7]

`torch.nn.functional.linear` takes 512, 64 and 8 rows and 1 row of 2304 numbers to 9216, as an MLP of Gemma-2-2B does.
For 8 rows and fewer, weights of 1 GB take turns: more than a processor's caches hold, so that each is read from memory.
With more rows two weights take turns, since it is the multiplying that takes the time.

A run's figure is the median of its tries. Of several runs the best median is printed, because what else a machine does
only ever makes this slower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_PROC_BIND", "true")  # Without effect once torch is loaded.

import torch
from torch.nn.functional import linear

FROM, TO = 2304, 9216
ROWS = (512, 64, 8, 1)
READ_FROM_MEMORY = 8
"""With so many rows or fewer, reading the weights is much of the time."""
WEIGHT_BYTES = 1_000_000_000
DTYPES = (torch.float32, torch.bfloat16)


@torch.inference_mode()
def median_seconds(rows: int, weights: list[torch.Tensor], tries: int) -> float:
    """The median time of one product; a try is one product with every weight."""
    x = torch.randn(rows, FROM).to(weights[0].dtype)
    seconds = []
    for _ in range(tries + 1):
        started = time.perf_counter()
        for weight in weights:
            linear(x, weight)
        seconds.append((time.perf_counter() - started) / len(weights))
    return statistics.median(seconds[1:])


def measure(dtype: torch.dtype, tries: int) -> dict[int, float]:
    """Seconds of one product for each number of rows."""
    one = torch.randn(TO, FROM).to(dtype)
    weights = [one.clone() for _ in range(WEIGHT_BYTES // one.nbytes)]
    return {rows: median_seconds(rows, weights[: 2 if rows > READ_FROM_MEMORY else None], tries) for rows in ROWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tries", type=int, default=7)
    chosen = parser.parse_args()
    runs = [{dtype: measure(dtype, chosen.tries) for dtype in DTYPES} for _ in range(chosen.runs)]
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}, load {os.getloadavg()[0]:.1f}")
    print(f"{FROM} to {TO}, best of {chosen.runs} medians of {chosen.tries}\n")
    print(f"{'rows':>4}{'dtype':>10}{'ms':>9}{'GFLOP/s':>9}{'GB/s':>7}")
    for rows in ROWS:
        for dtype in DTYPES:
            seconds, name = min(run[dtype][rows] for run in runs), str(dtype).removeprefix("torch.")
            flops, read = 2 * rows * FROM * TO / seconds, FROM * TO * dtype.itemsize / seconds
            print(f"{rows:4}{name:>10}{seconds * 1000:9.2f}{flops / 1e9:9.0f}{read / 1e9:7.1f}")


if __name__ == "__main__":
    main()
