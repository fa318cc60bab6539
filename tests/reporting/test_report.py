"""Pages are made of artifacts: every section and figure is there, what is absent is said, nothing of data is markup."""

from __future__ import annotations

import base64
import copy
import io
import re
import shlex
import subprocess
from pathlib import Path

import chromium
import made_up
import mlflow.cli
import mlflow.projects
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from mlflow.projects._project_spec import load_project
from PIL import Image

from baton import names
from baton.inspection import explanation, grad_cam, label_audit
from baton.reporting.html import artifacts, pages, report, sections
from steps.main import main

ROOT = Path(__file__).parents[2]
TITLES = ["Run", *(sections.SECTIONS[key][0] for key in report.REPORT), "Lineage", "Reproduce"]


def report_of(home, left=None, failed=None, error="", task="regression") -> str:
    """The report of a run that left these artifacts."""
    found = made_up.steps(home, made_up.artifacts() if left is None else left, failed)
    tags = {names.TAG_NAME: "made-up", "mlflow.source.git.commit": "abc123"}
    main = made_up.run_of(
        home / "main", "main", tags, {"config": "conf/made-up.yaml", "set": f"seed={made_up.HOSTILE}"}
    )
    return report.page(tiny.config(task), main, made_up.summary(found), found, error)


def images(html: str) -> list[bytes]:
    """The PNGs that markup embeds, in order."""
    return [base64.b64decode(uri) for uri in re.findall(r'<img src="data:image/png;base64,([^"]*)"', html)]


def section(html: str, key: str) -> str:
    """A section's own markup."""
    return re.search(rf'<section id="{key}">(.*?)</section>', html, re.DOTALL)[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    return report_of(tmp_path_factory.mktemp("report"))


def test_every_section_is_there_and_in_the_navigation(whole):
    assert re.findall(r"<h2>(.*?)</h2>", whole) == TITLES
    assert re.findall(r'<a href="#[a-z]+"[^>]*>(\w[\w ]*)</a>', whole)[: len(TITLES)] == TITLES
    assert "holds no" not in whole


def test_nothing_of_the_data_is_markup_and_nothing_is_loaded(whole):
    assert made_up.HOSTILE not in whole and "&lt;script&gt;alert(1)" in whole
    assert not re.search(r"(src|href)=[\"'](?!data:image/|#)", whole)
    assert "url(" not in whole and "@import" not in whole
    assert "default-src 'none'" in whole
    assert len(whole.encode()) < 2_500_000


def test_sections_tell_the_numbers(whole):
    assert "rmse 15.2 against 15.9 of version 3" in section(whole, "gate")
    assert "99.17 %" in section(whole, "gate") and "1.25 %</b>" in section(whole, "gate")
    assert "3 are surely worse" in section(whole, "slices")
    assert "89.9 %" in section(whole, "calibration")
    assert "dep_delay" in section(whole, "explanation") and "78.9 %" in section(whole, "explanation")
    assert "130</b> of 4,000 labels" in section(whole, "audit") and "ranking of the models" in section(whole, "audit")
    assert "9.800" in section(whole, "drift") and "the prediction" in section(whole, "drift")
    assert "27,020 rows" in section(whole, "drift") and "without month" in section(whole, "drift")
    assert "rmse, live minus test: 4, 95 % interval 3.6 to 4.4." in section(whole, "drift")
    assert "8,140" in section(whole, "scoring")
    assert "1 trials did not end well" in section(whole, "search")
    assert "c" * 64 in section(whole, "lineage") and "f" * 64 in section(whole, "lineage")


EMBEDDED = {
    "search": ["tune search"],
    "training": ["train curves", "distributed_train curves"],
    "gate": ["register comparison", "register predicted_vs_actual", "register residuals"],
    "slices": ["register slices"],
    "calibration": ["register intervals"],
    "explanation": [f"register shap_{n}" for n in ("importance", "beeswarm", "dependence_1", "row_1")],
    "audit": ["register audit_ranking", "register audit_targets"],
    "drift": ["batch_infer drift", "batch_infer drift_columns"],
}


@pytest.mark.parametrize("key", report.REPORT)
def test_each_section_embeds_the_very_bytes_of_the_steps_figures(whole, key):
    assert images(section(whole, key)) == [made_up.png(of) for of in EMBEDDED.get(key, [])]


def test_figures_are_shown_in_their_size_in_inches_and_at_once(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["tune"]["figures/search.png"] = made_up.png("older", width=550, dpi=110)
    html = report_of(tmp_path, left)
    assert 'alt="search" width="480"' in section(html, "search")
    assert section(html, "training").count('alt="curves" width="480"') == 2
    assert "loading=" not in html  # what loads late is blank in print


@pytest.mark.parametrize(("live", "texts"), [
    ({"rows": 0, "metrics": {}, "intervals": {}, "left_out": {"y (the target) is missing": 1234}},
     ["There are no live metrics", "1,234 rows are left out: y (the target) is missing."]),
    ({"rows": 5, "metrics": {"rmse": 2.0}, "intervals": {}, "left_out": {"y is <b>": 2}},
     ["5 rows with the target", "2 rows are left out: y is &lt;b&gt;."]),
    ({"rows": 5, "metrics": {"rmse": 2.0}, "intervals": {}}, ["5 rows with the target"]),  # of an earlier run
])  # fmt: skip
def test_rows_without_live_metrics_are_counted(tmp_path, live, texts):
    left = made_up.artifacts()
    left["batch_infer"][names.DRIFT]["live"] = live
    html = section(report_of(tmp_path, left), "drift")
    assert all(text in html for text in texts)
    assert html.count("left out") == len(live.get("left_out", {}))


def test_a_figure_that_an_older_run_lacks_is_said_in_its_place(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    for step, content in left.items():
        left[step] = {name: value for name, value in content.items() if not name.startswith("figures/")}
    html = report_of(tmp_path, left)
    assert images(html) == []
    for key, missing in EMBEDDED.items():
        (step, name), text = missing[0].split(), section(html, key)
        assert f"The run of {step} holds no figures/{name}.png: it is switched off, or an earlier Baton" in text
    assert "surely worse" in section(html, "slices") and "9.800" in section(html, "drift")  # numbers stay


def test_a_damaged_figure_costs_no_page(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["tune"]["figures/search.png"] = b"no picture"
    assert images(section(report_of(tmp_path, left), "search")) == [b"no picture"]


def reached(command: str, monkeypatch) -> dict[str, str]:
    """A command as a shell takes it, MLflow reads it and hands it on → what the entry point main is given."""
    stubs = 'git() { echo "$@" >&2; }; mlflow() { printf "%s\\0" "$@"; };'
    done = subprocess.run(["bash", "-c", stubs + command], capture_output=True, text=True, check=True)
    asked: dict = {}
    monkeypatch.setattr(mlflow.projects, "run", lambda *project, **options: asked.update(options))
    taken = CliRunner().invoke(mlflow.cli.cli, done.stdout.split("\0")[:-1], catch_exceptions=False)
    assert taken.exit_code == 0, taken.output
    entry = load_project(str(ROOT)).get_entry_point("main")
    words = shlex.split(entry.compute_command(asked["parameters"], None))
    assert words[:3] == ["python", "-m", "steps.main"]
    return {**main.make_context("main", words[3:]).params, "experiment": asked["experiment_name"]}


SETS = [
    "",
    "train.epochs=3,tune.max_trials=4",
    """data.drop=[a b, "it's", 'x=1, y=2'],data.target='$(touch owned) `touch owned` \\ "é" {set} <b>'""",
]


@pytest.mark.parametrize("overrides", SETS)
@pytest.mark.parametrize("logged", [str, shlex.quote], ids=["by Baton", "by MLflow"])
def test_reproduce_is_one_command_that_gives_main_what_it_was_given(overrides, logged, tmp_path, monkeypatch):
    tags = {names.TAG_NAME: "made-up", "mlflow.source.git.commit": "abc123"}
    config = "conf/some where's.yaml"
    given = {"config": logged(config), "set": logged(overrides), "force": logged("")}
    command = report.command(made_up.run_of(tmp_path, "main", tags, given))
    assert command.startswith("git checkout abc123 && mlflow run . -e main ")
    wanted = {"config": config, "overrides": overrides, "force": "all", "experiment": "made-up", "validate": False}
    wanted["pipeline"] = ""
    assert reached(command, monkeypatch) == wanted


def test_what_mlflow_logs_for_nothing_is_nothing_as_it_is_copied(monkeypatch):
    copied = shlex.join(["set=''", 'force=""']).replace(" ", " -P ")
    given = reached(f"mlflow run . -e main --experiment-name x -P {copied}", monkeypatch)
    assert given["overrides"] == given["force"] == ""


def test_the_report_shows_the_command_as_text(whole):
    shown = section(whole, "reproduce")
    assert "&#39;set=seed=&lt;script&gt;alert(1)&lt;/script&gt;&#39;" in shown


def test_a_failed_run_shows_what_there_is_with_the_error(tmp_path):
    left = {"ingest": made_up.artifacts()["ingest"], "train": made_up.artifacts()["train"]}
    html = report_of(
        tmp_path, left, {"tune": "All trials <b>failed</b>."}, error="tune failed: All trials <b>failed</b>."
    )
    assert re.findall(r"<h2>(.*?)</h2>", html) == TITLES
    assert "The run failed." in html and "<b>failed</b>" not in html
    assert "The step tune failed: All trials &lt;b&gt;failed" in section(html, "search")
    assert "The step register was skipped." in section(html, "gate")
    assert "No version was registered" in html
    assert images(section(html, "training")) == [made_up.png("train curves")]
    assert "surely worse" in section(html, "slices")  # of train's own evaluation


def test_a_run_that_failed_at_once_has_a_report(tmp_path):
    html = report_of(tmp_path, {}, {"ingest": "There is no file at the source."}, error="ingest failed")
    assert re.findall(r"<h2>(.*?)</h2>", html) == TITLES
    assert "The step ingest failed: There is no file at the source." in section(html, "data")


def test_what_is_switched_off_is_said_in_a_sentence(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"] = {names.VERDICT: {**made_up.verdict(), "comparison": None, "champion_before": None}}
    left["register"][names.AUDIT] = None  # as it is logged where it is switched off
    del left["batch_infer"][names.DRIFT]
    html = report_of(tmp_path, left)
    for key, what in {"explanation": names.EXPLANATION, "audit": names.AUDIT}.items():
        assert f"The run of register holds no {what}" in section(html, key)
    assert "The run of batch_infer holds no drift.json" in section(html, "drift")
    assert "There was no champion to beat." in section(html, "gate")
    assert "validation rows, candidate of train" in section(html, "slices")


def test_the_drift_of_pictures_is_told_with_its_figure(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    found = left["batch_infer"][names.DRIFT]
    area = {"auc": 0.912, "interval": [0.9, 0.92], "verdict": "drift"}
    distance = {**found["columns"][0], "name": "distance of pictures"}
    found["pictures"] = {"rows": 1000, "reference_rows": 400, "distance": distance, "domain_auc": area, "strangest": []}
    left["batch_infer"]["figures/drift_pictures.png"] = made_up.png("drift_pictures")
    html = section(report_of(tmp_path, left), "drift")
    assert images(html)[-1] == made_up.png("drift_pictures")
    assert "1,000 scored pictures, as the network sees them, against 400 of the training data" in html
    assert "0.912" in html and "distance of pictures" in html


def test_what_did_not_fit_its_seconds_is_said_in_the_steps_own_sentence(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"][names.EXPLANATION] = explanation.lacking("No row is explained: 20 s are <few>.")
    left["register"][names.AUDIT] = label_audit.lacking("No label is audited: 40 s are <few>.")
    html = report_of(tmp_path, left)
    assert "No row is explained: 20 s are &lt;few&gt;." in section(html, "explanation")
    assert "No label is audited: 40 s are &lt;few&gt;." in section(html, "audit")


@pytest.mark.parametrize(
    ("backbone", "asked", "name"),
    [
        ("MobileNetV2", "MobileNetV2", "MobileNetV2"),
        ("/warehouse/3856e692ce.keras", "nets/mine.keras", "nets/mine.keras"),
    ],
)
def test_what_became_of_a_backbone_and_why_is_in_training(tmp_path, backbone, asked, name):
    left = copy.deepcopy(made_up.artifacts())
    left["train"][names.CONFIG] = {"model": {"backbone": asked}}
    found = {
        "backbone": backbone, "weights": "imagenet", "rows": 500, "reason": "50 rows <a class> are enough",
        "method": "head_then_blocks", "depth": 4, "contest": {"probe": 0.9, "all": 0.8}, "chosen": "probe",
    }  # fmt: skip
    left["train"][names.EVALUATION] = {**left["train"][names.EVALUATION], "transfer": found}
    left["train"]["figures/transfer.png"] = made_up.png("transfer")
    shown = section(report_of(tmp_path, left), "training")
    assert f"{name}</code>, 500 rows: 50 rows &lt;a class&gt; are enough." in shown
    assert "head then blocks at block 4; of 2 trained, probe was the best" in " ".join(shown.split())
    assert made_up.png("transfer") in images(shown)


@pytest.mark.parametrize("explained", [True, False])
def test_what_a_network_of_pictures_learnt_is_in_its_explanation(tmp_path, explained):
    left = copy.deepcopy(made_up.artifacts())
    found = left["register"][names.EXPLANATION] if explained else explanation.lacking("No row is <explained>.")
    learnt = {"changed": 20, "turned": {"1": 0, "2": 3, "4": 9}}
    left["register"] = {
        names.EXPLANATION: {**found, "feature_maps": learnt},
        **{f"figures/{name}.png": made_up.png(name) for name in ("cnn_feature_maps", "cnn_filters", "shap_images")},
    }
    shown = section(report_of(tmp_path, left), "explanation")
    drawn = ["shap_images"] * explained + ["cnn_filters", "cnn_feature_maps"]
    assert images(shown) == [made_up.png(name) for name in drawn]
    assert "of 20 that it classifies rightly, 0 within ±1, 3 within ±2, 9 within ±4 of 255 a pixel." in shown
    assert ("No row is &lt;explained&gt;." in shown) != explained


@pytest.mark.parametrize("explained", [True, False])
def test_where_the_network_looks_and_what_it_mixes_up_is_in_its_explanation(tmp_path, explained):
    left = copy.deepcopy(made_up.artifacts())
    found = left["register"][names.EXPLANATION] if explained else explanation.lacking("No row is <explained>.")
    mixed = [{"actual": "Shirt", "predicted": made_up.HOSTILE, "rows": 1031, "of": 2000, "examples": []}]
    looked = {"layer": "last", "height": 7, "width": 7, "right": [{}] * 6, "wrong": [{}] * 5, "seconds": 1.0}
    left["register"] = {
        names.EXPLANATION: {**found, "grad_cam": looked, "confusions": mixed},
        **{f"figures/{name}.png": made_up.png(name) for name in ("cnn_confusions", "cnn_grad_cam", "shap_images")},
    }
    shown = section(report_of(tmp_path, left), "explanation")
    assert images(shown) == [
        made_up.png(name) for name in ["shap_images"] * explained + ["cnn_grad_cam", "cnn_confusions"]
    ]
    assert "Grad-CAM of 6 test pictures that are classified rightly and 5 that are not" in shown
    assert "Shirt is taken for &lt;script&gt;alert(1)&lt;/script&gt; (1,031 of 2,000)." in shown
    left["register"][names.EXPLANATION] |= {"grad_cam": grad_cam.to_dict(None), "confusions": []}
    shown = section(report_of(tmp_path / "none", left), "explanation")
    assert grad_cam.NO_MAP in shown and "No test picture is classified wrongly." in shown


def test_artifacts_of_a_classifier(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"][names.ASSESSMENT] = {"validation": made_up.classified(), "test": made_up.classified()}
    drawn = ("confusion_matrix", "roc", "precision_recall", "calibration")
    left["register"] |= {f"figures/{name}.png": made_up.png(name) for name in drawn}
    html = report_of(tmp_path, left, task="binary")
    shown = section(html, "calibration")
    assert "temperature of 1.32" in shown and "0.041" in shown and "0.012" in shown
    assert "0.31" in shown and images(shown) == [made_up.png("calibration")]
    assert images(section(html, "gate"))[1:] == [made_up.png(name) for name in drawn[:3]]
    assert "holds no slices" in section(html, "slices")


def test_damaged_artifacts_are_as_if_they_were_not_there(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"][names.EXPLANATION] = b"{"
    assert "holds no explanation.json" in section(report_of(tmp_path, left), "explanation")


def test_a_figure_too_large_is_named_in_its_place(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"]["figures/shap_dependence_1.png"] = b"0" * (artifacts.LARGEST_IMAGE + 1)
    shown = section(report_of(tmp_path, left), "explanation")
    assert "The figure figures/shap_dependence_1.png is too large for this page; it lies in the artifacts" in shown
    assert len(images(shown)) == 3


def test_a_figure_of_photographs_is_embedded_as_jpeg(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    noise = np.random.default_rng(1).integers(0, 256, (60, 75, 3), np.uint8)
    held = io.BytesIO()
    Image.fromarray(noise).resize((900, 750), Image.Resampling.BICUBIC).save(held, "png", dpi=(150, 150))
    assert len(held.getvalue()) > artifacts.LARGEST_IMAGE
    left["register"]["figures/shap_dependence_1.png"] = held.getvalue()
    shown = section(report_of(tmp_path, left), "explanation")
    assert "too large" not in shown and len(images(shown)) == 3
    (uri,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="shap dependence 1" width="576">', shown)
    photograph = base64.b64decode(uri)
    assert len(photograph) < artifacts.LARGEST_IMAGE
    got, given = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) for data in (photograph, held.getvalue())
    )
    assert np.abs(got - given).mean() < 4


def test_a_candidates_card_shows_its_own_figures(tmp_path):
    step = made_up.steps(tmp_path, made_up.artifacts())["train"]
    drawn = {s.key: s.values for s in sections.build(report.CARDS["train"], {"train": step})}
    titles = {
        key: [picture.title for picture in values["figures"]] for key, values in drawn.items() if key != "training"
    }
    assert titles == {
        "candidates": ["predicted vs actual", "residuals"], "slices": ["slices"], "calibration": ["intervals"],
    }  # fmt: skip


def test_validation_figures_are_those_of_the_chosen_candidates_run(tmp_path):
    left = copy.deepcopy(made_up.artifacts())
    left["register"][names.ASSESSMENT]["test"] = None
    html = report_of(tmp_path, left)
    assert images(section(html, "slices")) == [made_up.png("distributed_train slices")]


@pytest.mark.parametrize("step", list(report.CARDS))
def test_each_step_has_a_card_of_the_same_sections(tmp_path, step):
    found = made_up.steps(tmp_path, made_up.artifacts())[step]
    drawn = [s for s in sections.build(report.CARDS[step], {step: found}) if s.values is not None]
    html = pages.render("card.html.j2", name="made-up", title=report.TITLES[step], sections=drawn)
    assert len(re.findall("<section", html)) == len(drawn) > 0
    assert made_up.HOSTILE not in html


@pytest.fixture(scope="module")
def browser():
    with chromium.browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_any_width_and_ask_for_nothing(whole, browser, tmp_path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    file = tmp_path / "report.html"
    file.write_text(whole)
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and said == []
    load = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert load < 2000
    page.close()
