"""Figures and the profile page: what they say equals what the data say, and nothing loads or runs."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import made_up
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from baton import formatting
from baton.reporting.figures import assessment, drift, evaluation, style, training, transfer
from baton.reporting.figures import data as data_module
from baton.reporting.html import pages, profile


def texts(figure: Figure) -> str:
    """Everything a figure says, on one line, after it has been drawn to a PNG."""
    assert pages.figure_uri(figure).startswith("data:image/png;base64,")
    drawn = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    return " ".join(" ".join(text.get_text() for text in drawn).split())


def line(axis: Axes, label: str) -> np.ndarray:
    """The points [n, 2] of the one line whose label begins with `label`."""
    (found,) = [drawn for drawn in axis.lines if str(drawn.get_label()).startswith(label)]
    return np.column_stack(found.get_data())


def classified(load) -> tuple[np.ndarray, np.ndarray, list[str]]:
    data = load()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001)).fit(data.data, data.target)
    return data.target, model.predict_proba(data.data), [str(name) for name in data.target_names]


@pytest.fixture(scope="module")
def cancer() -> tuple[np.ndarray, np.ndarray, list[str]]:
    return classified(load_breast_cancer)


@pytest.fixture(scope="module")
def wine() -> tuple[np.ndarray, np.ndarray, list[str]]:
    return classified(load_wine)


def test_the_module_imports_neither_pyplot_nor_tensorflow_nor_mlflow():
    code = "import sys, baton.reporting.figures.evaluation, baton.reporting.html.pages; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib.pyplot", "tensorflow", "mlflow"} & set(done.stdout.split())


def test_the_report_is_made_without_matplotlib():
    """Nor what else takes a main of hits as long to import as its own work takes."""
    code = "import sys, baton.reporting.html.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "sklearn", "scipy", "pyarrow", "tensorflow"} & set(done.stdout.split())


# --- Training curves


def test_curves_put_train_and_validation_on_one_axis_and_mark_the_best_epoch():
    history = {
        "learning_rate": [1e-2, 1e-3, 1e-5],
        "loss": [3.0, 2.0, 1.0],
        "val_loss": [3.0, 2.5, 2.75],
        "accuracy": [0.1, 0.2, 0.3],
        "val_accuracy": [0.1, 0.15, 0.2],
    }
    figure = training.curves(history)["curves"]
    said = texts(figure)
    loss, accuracy, rate = figure.axes[:3]
    assert [axis.get_title(loc="left") for axis in (loss, accuracy, rate)] == [
        "loss",
        "accuracy",
        "learning rate",
    ]
    assert line(loss, "validation").tolist() == [[1, 3.0], [2, 2.5], [3, 2.75]]
    assert line(loss, "best").tolist() == [[2, 2.5]]
    assert line(accuracy, "best").tolist() == [[3, 0.2]]
    assert "best 2.5, epoch 2" in said
    assert rate.get_yscale() == "log"


def test_curves_of_a_diverged_run_mark_the_best_finite_epoch():
    history = {
        "loss": [2.0, np.nan],
        "val_loss": [np.nan, 3.0],
        "rmse": [1.0, 2.0],
        "val_rmse": [np.nan, np.nan],
    }
    loss, rmse = training.curves(history)["curves"].axes
    assert line(loss, "best").tolist() == [[2, 3.0]]
    assert not any(str(drawn.get_label()).startswith("best") for drawn in rmse.lines)


def test_curves_of_nothing_say_so():
    assert "Nothing was recorded" in texts(training.curves({})["curves"])


# --- Regression


def test_residuals_tell_their_mean_and_rmse():
    data = load_diabetes()
    predicted = LinearRegression().fit(data.data, data.target).predict(data.data)
    drawn = evaluation.regression(data.target, predicted + 5, "progression")
    rmse = metrics.root_mean_squared_error(data.target, predicted + 5)
    said = texts(drawn["residuals"])
    assert f"mean -5 RMSE {rmse:.4g}" in said
    heights = [bar.get_height() for bar in drawn["residuals"].axes[1].patches]
    assert sum(heights) == len(data.target)


def test_many_rows_are_drawn_as_density_and_cut_at_the_quantiles():
    targets = np.random.default_rng(0).standard_t(2, 50_000)
    figure = evaluation.regression(targets, targets * 0.9, "delay")["predicted_vs_actual"]
    low, high = figure.axes[0].get_xlim()
    outside = (targets < low) | (targets > high) | (targets * 0.9 < low) | (targets * 0.9 > high)
    assert 0 < outside.sum() < 200
    assert f"50,000 rows. Axes span the 0.1 to 99.9 % quantiles: {outside.sum():,} rows" in texts(figure)
    (cells,) = figure.axes[0].collections
    assert cells.get_array().sum() == (~outside).sum()


def test_rows_without_a_finite_prediction_are_counted():
    figure = evaluation.regression(np.arange(4.0), np.array([0, 1, np.nan, np.inf]), "y")["residuals"]
    assert "2 rows. 2 rows without a finite actual and predicted value are left out." in texts(figure)


def test_regression_of_no_rows_says_so():
    for figure in evaluation.regression(np.array([]), np.array([]), "y").values():
        assert "No rows." in texts(figure)


# --- Classification


def test_binary_figures_draw_class_one(cancer):
    targets, probabilities, classes = cancer
    drawn = evaluation.classification(targets, probabilities, classes)
    assert list(drawn) == ["confusion_matrix", "roc", "precision_recall", "calibration"]
    auc = metrics.roc_auc_score(targets, probabilities[:, 1])
    average = metrics.average_precision_score(targets, probabilities[:, 1])
    assert f"AUC {auc:.3f} benign" in texts(drawn["roc"])
    assert f"AP {average:.3f} benign" in texts(drawn["precision_recall"])
    points = line(drawn["roc"].axes[0], "AUC")
    assert metrics.auc(points[:, 0], points[:, 1]) == pytest.approx(auc, abs=1e-3)


def test_multiclass_curves_are_one_against_the_rest_with_the_macro_average(wine):
    targets, probabilities, classes = wine
    drawn = evaluation.classification(targets, probabilities, classes)
    macro = metrics.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert f"macro average AUC {macro:.3f} over 3 classes" in texts(drawn["roc"])
    assert len([drawn_ for drawn_ in drawn["roc"].axes[0].lines if "class_" in str(drawn_.get_label())]) == 3
    single = metrics.average_precision_score(targets == 1, probabilities[:, 1])
    assert f"AP {single:.3f} class_1" in texts(drawn["precision_recall"])


def test_confusion_matrix_writes_counts_and_colours_rows(wine):
    targets, probabilities, classes = wine
    figure = evaluation.classification(targets, probabilities, classes)["confusion_matrix"]
    expected = metrics.confusion_matrix(targets, probabilities.argmax(axis=1))
    assert expected.trace() < len(targets)  # else the test could not tell rows from columns
    written = [int(text.get_text().split("\n")[0]) for text in figure.axes[0].texts]
    assert written == expected.ravel().tolist()
    shares = figure.axes[0].images[0].get_array()
    assert np.allclose(shares, expected / expected.sum(axis=1, keepdims=True))


def test_confusion_matrix_of_many_classes_writes_no_counts():
    targets = np.arange(25)
    figure = evaluation.classification(targets, np.eye(25), [f"c{i}" for i in range(25)])["confusion_matrix"]
    assert not figure.axes[0].texts


def test_at_most_ten_curves_are_drawn_and_it_is_said():
    targets, classes = np.repeat(np.arange(12), 4), [f"_c{i}" for i in range(12)]
    figure = evaluation.classification(targets, np.eye(12)[targets], classes)["roc"]
    said = texts(figure)
    assert len(figure.axes[0].lines) == 11  # and that of chance
    assert "The 10 most frequent are drawn." in said
    assert "over 12 classes" in said
    assert "AUC 1.000 _c0" in said  # legends leave out what begins with an underscore


def test_calibration_error_is_the_weighted_gap_of_ten_bins():
    probability = np.array([0.05, 0.05, 0.85, 0.85])
    targets = np.array([0, 1, 1, 1])
    figure = evaluation.classification(targets, np.column_stack([1 - probability, probability]), ["no", "yes"])[
        "calibration"
    ]
    assert f"error {0.5 * 0.45 + 0.5 * 0.15:.3f}, 4 rows" in texts(figure)
    assert np.allclose(line(figure.axes[0], "observed"), [[0.05, 0.5], [0.85, 1.0]])
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 4


def test_multiclass_calibration_is_that_of_the_top_class():
    probabilities = np.array([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])
    figure = evaluation.classification(np.array([0, 1]), probabilities, ["a", "b", "c"])["calibration"]
    assert np.allclose(line(figure.axes[0], "observed"), [[0.6, 1.0], [0.8, 0.0]])


def test_a_class_that_does_not_occur_is_named():
    targets = np.array([0, 1, 0, 1])
    probabilities = np.full((4, 3), 1 / 3)
    drawn = evaluation.classification(targets, probabilities, ["a", "b", "c$1$"])
    assert r"Cannot be drawn, for lack of rows: “c\$1\$”" in texts(drawn["roc"])
    assert "over 2 classes" in texts(drawn["precision_recall"])
    assert r"No actual rows of “c\$1\$”." in texts(drawn["confusion_matrix"])


@pytest.mark.parametrize(("only", "name"), [(0, "no"), (1, "yes")])
def test_a_single_class_draws_what_can_be_drawn(only, name):
    drawn = evaluation.classification(np.full(5, only), np.full((5, 2), 0.5), ["no", "yes"])
    for figure in (drawn["roc"], drawn["precision_recall"]):
        assert f"Cannot be drawn: only “{name}” occurs." in texts(figure)
        assert not figure.axes[0].lines
    assert f"error 0.500, 5 rows. Only “{name}” occurs." in texts(drawn["calibration"])


def test_no_rows_at_all_are_said():
    drawn = evaluation.classification(np.zeros(0, int), np.zeros((0, 3)), ["a", "b", "c"])
    for name in ("roc", "precision_recall", "calibration"):
        assert "there are no rows" in texts(drawn[name])


def test_probabilities_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match=r"Expected \[n, 3\] probabilities. Received: \(4, 2\)"):
        evaluation.classification(np.zeros(4, int), np.zeros((4, 2)), ["a", "b", "c"])


# --- Search


def trial(number: int, loss: float | None, status: str = "ok", **parameters) -> dict:
    return {"number": number, "loss": loss, "status": status, "parameters": parameters, "seconds": 2.0}


def test_search_draws_the_best_so_far_and_crosses_for_failures():
    trials = [
        trial(0, 3.0),
        trial(1, 4.0),
        trial(2, None, "failed"),
        trial(3, 1.0),
        trial(4, None, "diverged"),
    ]
    figure = training.search(trials[::-1])["search"]
    (axis,) = figure.axes
    assert line(axis, "best so far").tolist() == [[1, 3.0], [2, 3.0], [4, 1.0]]
    assert line(axis, "failed")[0][0] == 3
    assert line(axis, "diverged")[0][0] == 5
    assert "Best loss 1 in trial 4. 3 of 5 trials went well, 10 s in all" in texts(figure)


def test_search_has_a_panel_for_each_of_the_six_most_varied_parameters():
    trials = [
        trial(i, 1.0 + i, **{f"p{j}": i % (j + 2) for j in range(8)}, rate=10.0**-i, same=1, kind="ab"[i % 2])
        for i in range(9)
    ]
    panels = training.search(trials)["search"].axes[1:]
    assert [panel.get_title(loc="left") for panel in panels] == ["p7", "rate", "p6", "p5", "p4", "p3"]
    assert [panel.get_xscale() for panel in panels[:2]] == ["linear", "log"]


def test_search_shows_categories_as_strips_and_skips_trials_without_the_parameter():
    trials = [trial(0, 1.0, units=[8, 4]), trial(1, 2.0, units=None), trial(2, 3.0)]
    figure = training.search(trials)["search"]
    _, panel = figure.axes
    texts(figure)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["None", "[8, 4]"]
    places = panel.collections[0].get_offsets()
    assert np.abs(places[:, 0] - [1, 0]).max() < 0.2
    assert places[:, 1].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("trials", [[], [trial(0, None, "failed", a=1), trial(1, float("nan"), a=2)]])
def test_search_without_a_good_trial_is_drawn(trials):
    assert f"0 of {len(trials)} trials went well" in texts(training.search(trials)["search"])


# --- Target


def test_target_of_numbers_tells_mean_and_median():
    figure = data_module.target(np.array([1.0, 2.0, 6.0, np.nan]), None, "delay")["target"]
    assert "mean 3 median 2" in texts(figure)


def test_target_of_classes_shows_the_most_frequent_first():
    counts = {f"c{i}": i + 1 for i in range(40)}
    figure = data_module.target(None, counts, "kind")["target"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == list(range(40, 10, -1))
    assert "The 30 most frequent of 40 classes." in texts(figure)


# --- The profile page

QUANTILES = dict(zip(("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"), (0, 5, 25, 40, 75, 95, 100), strict=True))
DAY = 86_400_000_000


def table(**kinds: str) -> dict:
    return {"columns": [{"name": name, "kind": kind} for name, kind in kinds.items()], "warnings": []}


def page(**changes) -> str:
    arguments: dict = {
        "name": "demo",
        "manifest": {
            "rows": {"input": 1000, "train": 700, "validation": 100, "test": 150, "quarantined": 50},
            "files": [{"split": "train", "path": "train/part-0.parquet", "rows": 700, "sha256": "ab" * 32}],
            "schema": [{}, {}],
            "fingerprint": "c0ffee",
        },
        "profile": {
            "delay": {"rows": 1000, "missing": 25, "mean": 1.5, "std": 2.5, "min": -3, "max": 1234}
            | {"quantiles": QUANTILES}
        },
        "table": table(delay="numeric"),
        "quarantine": {},
        "figures": {},
    }  # fmt: skip
    return profile.profile_page(**(arguments | changes))


class Tags(HTMLParser):
    """Collects the elements of a page and its visible text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += f" {data}"


def test_page_shows_where_the_rows_went():
    tags = Tags(page())
    assert "1,000 rows in = 700 train + 100 validation + 150 test + 50 quarantined" in tags.text
    widths = [a["style"] for tag, a in tags.tags if tag == "i" and "flex" in a.get("style", "")]
    assert [float(width.split(":")[1].split()[0]) for width in widths] == [0.7, 0.1, 0.15, 0.05]
    assert "c0ffee" in tags.text


def test_page_tells_a_numeric_column():
    tags = Tags(page())
    assert "delay numeric 2.5 % 1.5 ± 2.5 -3 to 1,234" in tags.text
    assert "0 median 40 100" in tags.text
    assert ("rect", "5.00", "90.00") in [(t, a.get("x"), a.get("width")) for t, a in tags.tags]


def test_page_shows_datetimes_as_dates():
    entry = {"rows": 9, "missing": 0, "mean": 3 * DAY, "std": DAY * 2, "min": 0, "max": 5.5 * DAY}
    entry["quantiles"] = {level: value * DAY / 20 for level, value in QUANTILES.items()}
    text = Tags(page(profile={"when": entry}, table=table(when="datetime"))).text
    assert "1970-01-04 ± 2 days 1970-01-01 to 1970-01-06 12:00" in text
    assert "1970-01-01 median 1970-01-03 1970-01-06" in text


def test_page_shows_top_categories_booleans_and_columns_without_values():
    profile = {
        "city": {"rows": 10, "missing": 2, "distinct": 7, "top": {"x": 4, "y": 2}},
        "flag": {"rows": 10, "missing": 2, "mean": 0.25, "std": 0.4, "min": 0, "max": 1},
        "photo": {"rows": 10, "missing": 10},
    }
    kinds = {"city": "categorical", "flag": "boolean", "photo": "image"}
    text = Tags(page(profile=profile, table=table(**kinds))).text
    assert "7 distinct x 4 · 50.0 % y 2 · 25.0 % and 5 more" in text
    assert "true 2 · 25.0 % false 6 · 75.0 %" in text
    assert "photo image 100 %" in text


def test_page_lists_reasons_by_count():
    text = Tags(page(quarantine={"a is infinite": 1, "b is missing": 3})).text
    assert "b is missing 3 · 75.0 % a is infinite 1 · 25.0 %" in text
    assert "No row was quarantined." in Tags(page()).text


def test_page_escapes_what_strangers_wrote():
    bad = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    html = page(
        name=bad,
        profile={bad: {"rows": 3, "missing": 0, "distinct": 1, "top": {bad: 3}}},
        table={"columns": [{"name": bad, "kind": "categorical", "why": bad, "example": bad}], "warnings": [bad]},
        quarantine={bad: 1},
        figures={bad: f"<svg><title>{bad}</title></svg>"},
    )
    tags = Tags(html)
    assert [tag for tag, _ in tags.tags if tag == "script"] == []
    assert not [name for _, attributes in tags.tags for name in attributes if name.startswith("on")]
    assert tags.text.count("<script>alert(1)</script>") >= 4  # it is shown as what it is


def test_names_and_cells_of_many_characters_are_cut():
    long = "<é>" * 5_000
    html = page(
        profile={long: {"rows": 3, "missing": 0, "distinct": 1, "top": {long: 3}}},
        table=table(**{long: "categorical"}),
        quarantine={long: 1},
    )
    assert "<é>" * 50 in Tags(html).text and "<é>" * 70 not in Tags(html).text


def test_page_loads_nothing_from_anywhere():
    figure = data_module.target(None, {"a": 1}, "y")["target"]
    html = page(figures={"png": pages.figure_uri(figure), "svg": '<svg xmlns="http://www.w3.org/2000/svg"/>'})
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[\w+/=]+", "", html))
    sources = [attributes["src"] for tag, attributes in Tags(html).tags if tag == "img"]
    assert [source.split(";")[0] for source in sources] == ["data:image/png", "data:image/svg+xml"]
    assert base64.b64decode(sources[0].split(",")[1]).startswith(b"\x89PNG")


def test_page_refuses_figures_that_are_not_images():
    with pytest.raises(ValueError, match=r"must be SVG or an image's data URI\. Received: 'https://x/y\.png'"):
        page(figures={"remote": "https://x/y.png"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-5.0, "-5"), (1234.5, "1,234"), (0.123456, "0.1235"), (3e12, "3e+12"), (2e-5, "2e-05")],
)
def test_numbers_are_short(value, text):
    assert formatting.number_text(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1e-9, "<0.1 %"), (0.5, "50.0 %"), (1 - 1e-9, ">99.9 %"), (1, "100 %")]
)
def test_percentages_are_never_rounded_away(share, text):
    assert formatting.percent_text(share) == text


def test_dates_beyond_the_calendar_stay_numbers():
    assert formatting.date_text(9e18) == "9e+18"


# --- An assessment


def slice_entry(number: int, worse: bool) -> dict:
    entry = {"column": f"c${number}", "slice": "a_b", "kind": "category", "rows": 1000 + number, "metric": "rmse"}
    return entry | {"value": 3.0 - number / 20, "interval": [2.0, 4.0], "difference": 1.0 - number / 20, "worse": worse}


def test_the_worst_slices_are_drawn_against_the_whole():
    assessed = {
        "rows": 9000, "metrics": {"rmse": 2.0}, "intervals": {"rmse": [1.9, 2.1]}, "confidence": 0.95,
        "slices": [slice_entry(n, worse=n < 3) for n in range(40)], "conformal": None,
    }  # fmt: skip
    drawn = assessment.drawn(assessed, {"name": "y"}, "rmse")
    assert list(drawn) == ["slices"]
    said = texts(drawn["slices"])
    assert "3 surely worse (orange); the grey may be so by chance. The line is all 9,000 rows: rmse 2." in said
    assert r"c\$0: a_b" in said and "1,023" in said and "1,024" not in said  # the first 24
    dots = drawn["slices"].axes[0].collections[-1].get_offsets()
    assert dots[0].tolist() == [3.0, 0.0] and len(dots) == assessment.SHOWN
    quiet = {**assessed, "slices": [slice_entry(1, worse=False)], "intervals": {"rmse": None}}
    assert "None is surely worse." in texts(assessment.drawn(quiet, {"name": "y"}, "rmse")["slices"])


COMPARED = {"metric": "rmse", "champion_version": "3", "difference": -0.7, "low": -0.9, "high": -0.5,
            "confidence": 0.95, "rows": 29_939}  # fmt: skip


def test_the_difference_from_the_champion_is_drawn_with_its_interval_and_zero():
    figure = assessment.comparison(COMPARED)["comparison"]
    said, (axis,) = texts(figure), figure.axes
    assert "95 % interval of 29,939 test rows. Left of the dashed line the candidate is better." in said
    assert "-0.7 (-0.9 to -0.5)" in said and "rmse: candidate minus champion, version 3" in said
    interval, dot = axis.collections
    assert [point.tolist() for point in interval.get_segments()[0]] == [[-0.9, 0.0], [-0.5, 0.0]]
    assert dot.get_offsets().tolist() == [[-0.7, 0.0]]
    (zero,) = axis.lines
    assert list(zero.get_xdata()) == [0, 0] and axis.get_xlim()[0] < -0.9 and axis.get_xlim()[1] > 0


@pytest.mark.parametrize(
    ("ends", "colour"), [((-2, -1), style.GREEN), ((-1, 1), style.GREY), ((1, 2), style.ORANGE), ((0, 0), style.GREY)]
)
def test_the_colour_of_the_difference_says_whether_it_is_sure(ends, colour):
    compared = COMPARED | {"low": ends[0], "high": ends[1], "difference": sum(ends) / 2}
    dot = assessment.comparison(compared)["comparison"].axes[0].collections[-1]
    assert to_hex(dot.get_facecolor()[0]) == colour.lower()


def test_without_a_comparison_none_is_drawn():
    assert assessment.comparison(None) == {}


def test_drift_writes_every_psi_and_the_ends_of_each_axis():
    results = made_up.drift()
    moment = {**results["columns"][0], "name": "when", "kind": "datetime", "psi": 0.3}
    moment["bins"] = [[0.0, 0.5, 0.1], [2.5 * DAY, 0.5, 0.9]]
    results["columns"].append(moment)
    drawn = drift.drift(results, 0.2)
    said = texts(drawn["drift"])
    assert "9.800 →" in said and "0.120" in said and "the line is the limit of 0.2" in said
    widths = [bar.get_width() for bar in drawn["drift"].axes[0].patches]
    assert widths == pytest.approx([0.05, 1.0, 0.12, 0.3])  # the prediction first; far beyond the limit bars end
    panels = {axis.get_title(): axis for axis in drawn["drift_columns"].axes}
    assert [text.get_text() for text in panels["month"].get_xticklabels()] == ["1", "11"]
    assert [text.get_text() for text in panels["when"].get_xticklabels()] == ["1970-01-01", "1970-01-03"]


@pytest.mark.parametrize("edges", [[], [1.0, 5.0]])
def test_coverage_is_drawn_against_what_was_asked_for(edges):
    widths = {level: [float(level)] * (len(edges) + 1) for level in ("0.8", "0.9", "0.95")}
    levels = {level: {"coverage": float(level) + 0.01, "mean_width": 1.0} for level in widths}
    assessed = {"rows": 500, "slices": [], "conformal": {"levels": levels}}
    target = {"name": "y", "intervals": {"edges": edges, "half_widths": widths}}
    drawn = assessment.drawn(assessed, target, "rmse")
    assert list(drawn) == ["intervals"]
    assert "Share of true values inside: 81.0% for 80%, 91.0% for 90%, 96.0% for 95%." in texts(drawn["intervals"])
    points = line(drawn["intervals"].axes[0], "observed")
    np.testing.assert_allclose(points, [[0.8, 0.81], [0.9, 0.91], [0.95, 0.96]])
    assert ("one width" in texts(drawn["intervals"])) == (not edges)


def test_calibration_is_drawn_before_and_after_the_temperature(cancer):
    targets, probabilities, classes = cancer
    bare = np.eye(2)[probabilities.argmax(axis=1)] * 0.98 + 0.01
    drawn = evaluation.classification(targets, probabilities, classes, bare=bare, threshold=0.9)
    assert "before temperature scaling" in texts(drawn["calibration"])
    assert set(line(drawn["calibration"].axes[0], "before")[:, 0].round(2)) == {0.01, 0.99}
    written = [int(text.get_text().split("\n")[0]) for text in drawn["confusion_matrix"].axes[0].texts]
    assert written == metrics.confusion_matrix(targets, probabilities[:, 1] > 0.9).ravel().tolist()
    assert "“benign” is predicted above a probability of 0.9." in texts(drawn["confusion_matrix"])


def test_depth_against_accuracy_says_what_was_measured_and_kept():
    found = {
        "method": "head_then_blocks", "depth": 2, "reason": "50 rows a class are enough", "chosen": "scratch",
        "contest": {"probe": 0.9, "head_then_blocks": 0.8, "scratch": 0.7},
        "depths": [{"depth": n, "accuracy": a} for n, a in ((1, 0.4), (2, 0.75), (3, 0.6))],
    }  # fmt: skip
    figure = transfer.depths(found)["transfer"]
    left, right = figure.axes
    np.testing.assert_allclose(np.column_stack(left.lines[0].get_data()), [[1, 0.4], [2, 0.75], [3, 0.6]])
    assert [bar.get_width() for bar in right.patches] == [0.7, 0.8, 0.9]
    said = texts(figure)
    assert "50 rows a class are enough. Cut at block 2; kept: CNN from scratch." in said and "0.750" in said
    assert to_hex(right.patches[0].get_facecolor()) == style.ORANGE.lower() and not transfer.depths({})
