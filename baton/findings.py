"""The runs of a pipeline in, what they left behind out: the artifacts that pages are made of, read when asked for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from baton import names, runs
from baton.errors import BatonError

LARGEST_IMAGE = 400_000  # bytes; a page embeds what is smaller


@dataclass
class Findings:
    """What one step's run left. `status` is that of summary.json; `run` is None for a step that never began."""

    step: str
    status: str = "skipped"
    run: Any = None
    cache: str | None = None
    seconds: float = 0.0
    held: dict[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> Any:
        """A JSON artifact, parsed; None if the run has none of that name, or it is damaged."""
        if name not in self.held:
            content = self._bytes(name)
            try:
                self.held[name] = None if content is None else json.loads(content)
            except ValueError:
                self.held[name] = None
        return self.held[name]

    def text(self, name: str) -> str:
        return (self._bytes(name) or b"").decode(errors="replace")

    def image(self, name: str) -> str | None:
        """A PNG artifact as a data URI; None if there is none, or it is too large for a page."""
        content = self._bytes(name)
        if content is None or len(content) > LARGEST_IMAGE:
            return None
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"

    def figures(self, prefix: str) -> list[str]:
        """The names of the run's figures that begin so, in order."""
        if self.run is None:
            return []
        if (folder := _folder(self.run)) is not None:
            return sorted(p.stem for p in (folder / names.FIGURES).glob(f"{prefix}*.png"))
        found = runs.client().list_artifacts(self.run.info.run_id, names.FIGURES)
        return sorted(Path(f.path).stem for f in found if Path(f.path).name.startswith(prefix))

    @property
    def tags(self) -> dict[str, str]:
        return {} if self.run is None else self.run.data.tags

    @property
    def error(self) -> str:
        """Why the step failed, as its run tells; empty if it did not."""
        return self.tags.get(names.TAG_ERROR, "") if self.status == "failed" else ""

    def lacking(self, what: str) -> str:
        """Why there is nothing to show, as a sentence."""
        if self.status == "failed":
            return f"The step {self.step} failed: {self.error or 'its process ended without a word'}"
        if self.status == "skipped":
            return f"The step {self.step} was skipped."
        return f"The run of {self.step} holds no {what}: it is switched off, or an earlier Baton made the run."

    def _bytes(self, name: str) -> bytes | None:
        if self.run is None:
            return None
        if (folder := _folder(self.run)) is not None:
            path = folder / name
            return path.read_bytes() if path.is_file() else None
        return _downloaded(self.run.info.run_id, name)


def of_run(run_id: str, step: str) -> Findings:
    """What a step's own run has left so far."""
    return Findings(step, "finished", runs.find(run_id))


def of_steps(steps: dict[str, dict[str, Any]]) -> dict[str, Findings]:
    """summary.json's steps → {step: what its run, or the run that had its result, left}."""
    return {
        name: Findings(
            name, entry["status"], runs.find(entry["run_id"]) if entry["run_id"] else None, entry["cache"],
            entry["seconds"],
        )
        for name, entry in steps.items()
    }  # fmt: skip


def _folder(run: Any) -> Path | None:
    """A run's artifacts on this machine, if they lie here: reading them so takes no time."""
    place = urlparse(run.info.artifact_uri)
    return Path(unquote(place.path)) if place.scheme in ("", "file") and not place.netloc else None


def _downloaded(run_id: str, name: str) -> bytes | None:
    import tempfile

    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as home:
        try:
            return Path(runs.client().download_artifacts(run_id, name, home)).read_bytes()
        except (MlflowException, BatonError, OSError):
            return None
