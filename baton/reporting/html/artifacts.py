"""The runs of a pipeline in, what they left behind out: the artifacts that pages are made of, read when asked for."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from baton import names
from baton.errors import BatonError
from baton.tracking import runs

LARGEST_IMAGE = 800_000  # bytes that a page embeds; figures of many photographs are larger, and made smaller for it
JPEG_QUALITY = 85
CSS_DPI = 96  # a page's pixels an inch


@dataclass(frozen=True)
class Picture:
    """A figure of a run for a page: `uri` and the width to show it at, or the sentence `lacking` in their place."""

    title: str
    uri: str = ""
    width: int = 0
    lacking: str = ""


@dataclass
class StepArtifacts:
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

    def image(self, name: str) -> Picture:
        """A figure by its name → its PNG to be embedded, a large one as JPEG; or why the page has none."""
        title, artifact = name.replace("_", " "), f"{names.FIGURES}/{name}.png"
        content = self._bytes(artifact)
        if content is None:
            return Picture(title, lacking=self.lacking(artifact))
        kind, embedded = ("png", content) if len(content) <= LARGEST_IMAGE else ("jpeg", _jpeg(content))
        if embedded is None or len(embedded) > LARGEST_IMAGE:
            sentence = (
                f"The figure {artifact} is too large for this page; it lies in the artifacts of {self.step}'s run."
            )
            return Picture(title, lacking=sentence)
        return Picture(title, f"data:image/{kind};base64,{base64.b64encode(embedded).decode()}", _width(content))

    def figures(self, prefix: str) -> list[str]:
        """The names of the run's figures that begin so, in order."""
        if self.run is None:
            return []
        if (folder := runs.local_artifacts(self.run)) is not None:
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
        try:
            return None if self.run is None else runs.content(self.run, name)
        except BatonError:
            return None


def of_run(run_id: str, step: str) -> StepArtifacts:
    """What a step's own run has left so far."""
    return StepArtifacts(step, "finished", runs.find(run_id))


def of_steps(steps: dict[str, dict[str, Any]], finished_runs: Mapping[str, Any]) -> dict[str, StepArtifacts]:
    """summary.json's steps → {step: what its run, or its source run, left}; `finished_runs` as of `outputs.key`."""
    return {
        name: StepArtifacts(
            name, entry["status"], _run(entry["run_id"], finished_runs), entry["cache"], entry["seconds"]
        )
        for name, entry in steps.items()
    }


def _width(png: bytes) -> int:
    """A PNG → its width in a page's pixels, so that text is as large in every figure; 0 if that is not known."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            return round(image.width * CSS_DPI / image.info.get("dpi", (CSS_DPI,))[0])
    except OSError:  # as of a damaged file, which the browser shows by its name
        return 0


def _jpeg(png: bytes) -> bytes | None:
    """A PNG → the same as JPEG, which photographs are small in; None of what is no picture."""
    held = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.convert("RGB").save(held, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    except (OSError, Image.DecompressionBombError):
        return None
    return held.getvalue()


def _run(run_id: str | None, finished_runs: Mapping[str, Any]) -> Any | None:
    return finished_runs.get(run_id) or runs.find(run_id) if run_id else None
