"""Pages are made of artifacts: every section is there, what is absent is said, and nothing of the data is markup."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
import tiny
import told

from baton import names
from baton.reporting.html import artifacts, charts, pages, report, sections

TITLES = ["Run", *(sections.SECTIONS[key][0] for key in report.REPORT), "Lineage", "Reproduce"]


def made(home, left=None, failed=None, error="", task="regression") -> str:
    """The report of a run that left these artifacts."""
    found = told.steps(home, told.artifacts() if left is None else left, failed)
    tags = {names.TAG_NAME: "told", "mlflow.source.git.commit": "abc123"}
    main = told.run_of(home / "main", "main", tags, {"config": "conf/told.yaml", "set": f"seed={told.HOSTILE}"})
    return report.page(tiny.config(task), main, told.summary(found), found, error)


def section(html: str, key: str) -> str:
    """A section's own markup."""
    return re.search(rf'<section id="{key}">(.*?)</section>', html, re.DOTALL)[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    return made(tmp_path_factory.mktemp("told"))


def test_every_section_is_there_and_in_the_navigation(whole):
    assert re.findall(r"<h2>(.*?)</h2>", whole) == TITLES
    assert re.findall(r'<a href="#[a-z]+"[^>]*>(\w[\w ]*)</a>', whole)[: len(TITLES)] == TITLES
    assert "holds no" not in whole


def test_nothing_of_the_data_is_markup_and_nothing_is_loaded(whole):
    assert told.HOSTILE not in whole and "&lt;script&gt;alert(1)" in whole
    assert not re.search(r"(src|href)=[\"'](?!data:image/|#)", whole)
    assert "url(" not in whole and "@import" not in whole
    assert "default-src 'none'" in whole
    assert len(whole.encode()) < 2_500_000


def test_sections_tell_the_numbers(whole):
    assert "15.2" in section(whole, "gate") and "-0.9 to -0.5" in section(whole, "gate")
    assert "3 are surely worse" in section(whole, "slices")
    assert "89.9 %" in section(whole, "calibration")
    assert "dep_delay" in section(whole, "explanation") and "data:image/png" in section(whole, "explanation")
    assert "130</b> of 4,000 labels" in section(whole, "audit") and "ranking of the models" in section(whole, "audit")
    assert "27,020 rows" in section(whole, "drift") and "without month" in section(whole, "drift")
    assert "8,140" in section(whole, "scoring")
    assert "1 trials did not end well" in section(whole, "search")
    assert "c" * 64 in section(whole, "lineage") and "f" * 64 in section(whole, "lineage")


def test_reproduce_is_one_quoted_command(whole):
    told_there = section(whole, "reproduce")
    assert "git checkout abc123 &amp;&amp; mlflow run . -e main" in told_there
    assert (
        "config=conf/told.yaml" in told_there
        and "&#39;set=seed=&lt;script&gt;alert(1)&lt;/script&gt;&#39;" in told_there
    )


def test_a_failed_run_shows_what_there_is_with_the_error(tmp_path):
    left = {"ingest": told.artifacts()["ingest"], "train": told.artifacts()["train"]}
    html = made(tmp_path, left, {"tune": "All trials <b>failed</b>."}, error="tune failed: All trials <b>failed</b>.")
    assert re.findall(r"<h2>(.*?)</h2>", html) == TITLES
    assert "The run failed." in html and "<b>failed</b>" not in html
    assert "The step tune failed: All trials &lt;b&gt;failed" in section(html, "search")
    assert "The step register was skipped." in section(html, "gate")
    assert "No version was registered" in html
    assert "rmse" in section(html, "training")
    assert "surely worse" in section(html, "slices")  # of train's own evaluation


def test_a_run_that_failed_at_once_has_a_report(tmp_path):
    html = made(tmp_path, {}, {"ingest": "There is no file at the source."}, error="ingest failed")
    assert re.findall(r"<h2>(.*?)</h2>", html) == TITLES
    assert "The step ingest failed: There is no file at the source." in section(html, "data")


def test_what_is_switched_off_is_said_in_a_sentence(tmp_path):
    left = copy.deepcopy(told.artifacts())
    left["register"] = {names.VERDICT: {**told.verdict(), "comparison": None, "champion_before": None}}
    left["register"][names.AUDIT] = None  # as it is logged where it is switched off
    del left["batch_infer"][names.DRIFT]
    html = made(tmp_path, left)
    for key, what in {"explanation": names.EXPLANATION, "audit": names.AUDIT}.items():
        assert f"The run of register holds no {what}" in section(html, key)
    assert "The run of batch_infer holds no drift.json" in section(html, "drift")
    assert "There was no champion to beat." in section(html, "gate")
    assert "validation rows, candidate of train" in section(html, "slices")


def test_artifacts_of_a_classifier(tmp_path):
    left = copy.deepcopy(told.artifacts())
    left["register"][names.ASSESSMENT] = {"validation": told.classified(), "test": told.classified()}
    html = made(tmp_path, left, task="binary")
    shown = section(html, "calibration")
    assert "temperature of 1.32" in shown and "0.041" in shown and "0.012" in shown
    assert shown.count('class="d0"') == 5  # the empty bin is none
    assert "0.31" in shown and "80.0 %" in shown
    assert "holds no slices" in section(html, "slices")


def test_damaged_artifacts_are_as_if_they_were_not_there(tmp_path):
    left = copy.deepcopy(told.artifacts())
    left["register"][names.EXPLANATION] = b"{"
    assert "holds no explanation.json" in section(made(tmp_path, left), "explanation")


def test_a_figure_too_large_is_named_in_its_place(tmp_path):
    left = copy.deepcopy(told.artifacts())
    left["register"]["figures/shap_dependence.png"] = b"0" * (artifacts.LARGEST_IMAGE + 1)
    html = made(tmp_path, left)
    assert "The figure dependence is too large for this page" in html
    assert html.count("<img") == 1


@pytest.mark.parametrize("step", list(report.CARDS))
def test_each_step_has_a_card_of_the_same_sections(tmp_path, step):
    found = told.steps(tmp_path, told.artifacts())[step]
    drawn = [s for s in sections.build(report.CARDS[step], {step: found}) if s.values is not None]
    html = pages.render("card.html.j2", name="told", title=report.TITLES[step], sections=drawn)
    assert len(re.findall("<section", html)) == len(drawn) > 0
    assert told.HOSTILE not in html


def test_an_axis_has_round_ticks_and_places_in_percent():
    axis = charts.axis([13.2, 47.9])
    assert [text for _, text in axis.ticks] == ["10", "20", "30", "40", "50"]
    assert (axis.at(10), axis.at(30), axis.at(50), axis.at(99)) == (0, 50, 100, 100)
    assert charts.axis([0.001, 10.0]).log
    assert charts.axis([3.0, 3.0]).at(3.0) == 50
    assert charts.axis([]).ticks


def test_lines_leave_out_what_is_not_finite():
    chart = charts.lines({"a": ([1, 2, 3], [1.0, None, float("nan")])}, "epoch", "loss", best=2)
    assert len(chart["series"][0]["dots"]) == 1
    assert "nan" not in chart["series"][0]["points"]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("There is no chromium: install it to run the browser tests.")
    with sync_playwright() as play:
        yield play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])


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
