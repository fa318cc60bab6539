"""The small form of `make faults`: nine kills, each survived."""

import subprocess
import sys
from pathlib import Path

from faults import points
from faults.compare import differences
from faults.points import Order, Point, chosen

ROOT = Path(__file__).parents[2]


def test_nine_kills_are_survived():
    command = [sys.executable, "-m", "faults", "--few"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "| all | 9 | 9 |" in done.stdout


def test_of_repeated_points_the_first_the_middle_and_the_last_are_chosen(tmp_path):
    met = [("train", "a"), *[("train", "b")] * 5, ("main", "b"), *[("train", "c")] * 2]
    watched = points.Watch.__new__(points.Watch)
    watched.order = Order(str(tmp_path), str(tmp_path / "record"))
    for watched.role, name in met:
        watched._write(name)
    expected = [("a", 1), ("b", 1), ("b", 3), ("b", 5), ("c", 1), ("c", 2)]
    assert [(p.name, p.nth) for p in chosen(tmp_path / "record", "train")] == expected
    assert chosen(tmp_path / "record", "main") == [Point("main", "b")]


def test_a_process_is_killed_at_its_point_and_not_before(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from faults import points\n"
        "points.watch('it', sys.argv[1]); home = Path(sys.argv[2])\n"
        "for i in range(3):\n    (home / 'new').write_text(str(i)); (home / 'new').rename(home / 'seen')\n"
    )
    order = Order(str(tmp_path), str(tmp_path) + ".record", Point("it", "rename to seen", 2))
    command = [sys.executable, "-c", script, order.to_json(), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert ((tmp_path / "seen").read_text(), (tmp_path / "new").read_text()) == ("0", "1")


def test_differences_name_the_place():
    one = {"same": 1, "weights": {"a": [1, 2], "b": 0}, "gone": True}
    other = {"same": 1, "weights": {"a": [1, 3], "b": 0}}
    assert differences(one, other) == ["weights.a: [1, 2] → [1, 3]", "gone: True → None"]
    assert differences(one, one) == []
