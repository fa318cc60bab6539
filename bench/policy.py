"""What `train.transfer: auto` chooses, against the best of what it could have chosen, known afterwards.

CIFAR-10 at 96 pixels, one seed: the pictures of `bench transfer`, of which 4,000 are told. Each setting is a network
and a number of labelled pictures a class; each part, the probe, head then blocks, all blocks, and the CNN from scratch,
is trained by itself, as long as `auto` trains it. The goal is the policy's share of recognised pictures plus a point
against the best part's.
"""

from __future__ import annotations

from typing import Any

from bench import transfer
from bench.harness import Comparison, fresh, say

RUNS = 1
SIZE = 96  # pixels a side
SETTINGS = (
    ("EfficientNet-Lite0", 10), ("EfficientNet-Lite0", 25), ("EfficientNet-Lite0", 60), ("MobileNetV2", 10),
    ("MobileNetV2", 40),
)  # fmt: skip
PARTS = ("probe", "head_then_blocks", "all", "scratch")
POINT = 0.01


def measure(runs: int) -> list[Comparison]:
    """One comparison a setting; `runs` counts the seeds, of which the mean is taken."""
    transfer.demand_inputs()
    return [_compared(name, count, runs) for name, count in SETTINGS]


def _compared(name: str, count: int, runs: int) -> Comparison:
    chosen = [_trained(name, count, seed, "auto") for seed in range(runs)]
    parts = {part: [_trained(name, count, seed, part) for seed in range(runs)] for part in PARTS}
    means = {part: sum(run["right"] for run in trained) / runs for part, trained in parts.items()}
    policy, best = sum(run["right"] for run in chosen) / runs, max(means, key=means.__getitem__)
    kept = ", ".join(run["transfer"]["chosen"] for run in chosen)
    told = "  ".join(f"{part} {share:.3f}" for part, share in means.items())
    say(f"{name}, {count} a class: policy {policy:.3f} ({kept})  {told}")
    return Comparison(
        f"best part ({best}) less a point, {name}, {count} a class", policy, means[best] - POINT, 1.0, "higher", "right"
    )


def _trained(name: str, count: int, seed: int, part: str) -> dict[str, Any]:
    return fresh(transfer.trained, count, seed, SIZE, transfer.model(name), {"transfer": part})
