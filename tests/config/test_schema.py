"""The config: what is needed, what is refused and how the refusal reads."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.config import loading
from baton.config import schema as config
from baton.config.schema import BatchInfer, Config, Data, ImageSize, Section, Split
from baton.errors import BadInput

SMALL = {"name": "demo", "data": {"source": "rows.csv", "target": "y", "task": "binary"}}
TEXT = """name: demo
data:
  source: rows.csv
  target: y
  task: binary
"""


@pytest.fixture
def load(tmp_path):
    """YAML text and overrides → what `config.load` makes of them."""

    def load(text: str, overrides: str = "") -> Config:
        path = tmp_path / "demo.yaml"
        path.write_text(text)
        return loading.load(str(path), overrides)

    return load


def test_name_and_data_are_enough(load):
    assert load(TEXT) == config.validate(SMALL, {}, "here")
    assert load(TEXT).data.split == Split(train=0.8, validation=0.1, test=0.1)
    assert load(TEXT).batch_infer is None


@pytest.mark.parametrize("needed", ["name", "data", "data.source", "data.task"])
def test_what_is_missing_is_named(needed):
    tree = {**SMALL, "data": dict(SMALL["data"])}
    *parents, last = needed.split(".")
    del (tree["data"] if parents else tree)[last]
    with pytest.raises(BadInput, match=f"here.*: {needed} is missing and has no default"):
        config.validate(tree, {}, "here")


def test_the_defaults_survive_a_dump(load):
    whole = load(TEXT + "batch_infer: {source: new.csv, output: out}\n")
    dumped = whole.dump()
    assert dumped["register"]["promote"] == "auto" and dumped["tune"]["max_trials"] == 12
    assert config.validate(yaml.safe_load(yaml.safe_dump(dumped)), {}, "dump") == whole


def test_every_default_is_a_value_that_is_allowed():
    """Pydantic does not validate defaults; a dump makes them values like any other."""
    assert config.validate(Config.model_validate(SMALL).dump(), {}, "dump").dump()["engine"] == "auto"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("nmae: x", r"line 6: nmae is not a key here\. Allowed: name, experiment, seed, .*register, .*Received: 'x'"),
        ("train: {patience: 0}", r"line 6: train\.patience: .*greater than or equal to 1\. Received: 0"),
        ("train: {epochs: true}", r"train\.epochs: true and false are not allowed here\. Received: True"),
        ("train: {learning_rate: .inf}", r"train\.learning_rate: .*finite number\. Received: inf"),
        ("train: {optimizer: adm}", r"train\.optimizer: .*'sgd', .*or 'adamw'\. Received: 'adm'"),
        ("train:\n  epoch: 3", r"line 7: train\.epoch is not a key here\. Allowed: epochs, batch_size"),
        (
            "register: {promot: auto}",
            r"register\.promot .*Allowed: model, promote, policy, confidence, .*\. Received: 'auto'",
        ),
        ("batch_infer: {sauce: a}", r"batch_infer\.sauce is not a key here\. Allowed: source, output, alias"),
        ("engine: dask", r"line 6: engine: .*'auto', 'local' or 'spark'\. Received: 'dask'"),
        ("train: 3", r"line 6: train: .*Received: 3"),
        ("model:\n  hidden: [8, 0]", r"line 7: model\.hidden\.1: .*greater than or equal to 1\. Received: 0"),
        ("7: x", r"line 6: 7: keys should be strings \(put it in quotes\)\. Received: 7"),
    ],
)
def test_a_fault_has_path_line_allowed_and_received(load, line, answer):
    with pytest.raises(BadInput, match=rf"demo\.yaml, .*{answer}"):
        load(TEXT + line + "\n")


def _fields() -> list[tuple[str, str]]:
    optional = {"batch_infer": BatchInfer}
    pairs = []
    for name, field in Config.model_fields.items():
        section = optional.get(name, field.annotation)
        if isinstance(section, type) and issubclass(section, Section):
            pairs += [(field.alias or name, key) for key in section.model_fields]
    return pairs


@pytest.mark.parametrize(("section", "key"), _fields())
def test_no_key_takes_what_is_no_value(section, key):
    needed = {"batch_infer": {"source": "a", "output": "b"}, "data": SMALL["data"]}.get(section, {})
    tree = {**SMALL, section: {**needed, key: [[]]}}
    with pytest.raises(BadInput, match=rf"{section}\.{key}[\w.\[\]]*: .*Received: \[") as caught:
        config.validate(tree, {}, "here")
    assert "is missing" not in str(caught.value)


@settings(deadline=None)
@given(st.text("abcdefghij_", min_size=1).filter(lambda key: key not in Data.model_fields))
def test_an_unknown_key_is_named_with_all_that_are_allowed(key):
    answer = rf"data\.{key} is not a key here\. Allowed: {', '.join(Data.model_fields)}\. Received: 1"
    with pytest.raises(BadInput, match=answer):
        config.validate({**SMALL, "data": {**SMALL["data"], key: 1}}, {}, "here")


def test_all_faults_are_named_at_once(load):
    with pytest.raises(BadInput, match=r"line 6: seed: .*line 7: tune\.max_trials: "):
        load(TEXT + "seed: -1\ntune: {max_trials: 0}\n")


@pytest.mark.parametrize(
    ("split", "answer"),
    [
        ({"train": 0.9}, "the shares must add up to 1, not to 1.1"),
        ({"train": 0, "validation": 0.5, "test": 0.5}, "train must be above 0"),
        ({"validation": 0.2, "test": 0}, "test must be above 0"),
        ({"train": 1, "validation": 0, "test": 0}, "validation and test must be above 0"),
    ],
)
def test_shares_add_up_and_none_is_empty(split, answer):
    with pytest.raises(BadInput, match=rf"data\.split: {answer}"):
        config.validate({**SMALL, "data": {**SMALL["data"], "split": split}}, {}, "here")


def test_columns_and_classes_may_be_called_on_and_no(load):
    text = "name: demo\ndata: {source: a, target: yes, task: binary, id: [on], drop: [off, No], kinds: {n: numeric}}\n"
    config = load(text + "train: {class_weights: {no: 2, yes: 1}, calibrate: false}\n", "data.group=y")
    assert (config.data.target, config.data.id, config.data.drop) == ("yes", ["on"], ["off", "No"])
    assert config.data.kinds == {"n": "numeric"} and config.data.group == "y"
    assert config.train.class_weights == {"no": 2.0, "yes": 1.0} and config.train.calibrate is False


@pytest.mark.parametrize("names", ["drop: [2019]", "drop: [true]", "id: [1.5]", "kinds: {2019: numeric}", "group: 7"])
def test_a_name_that_yaml_takes_for_a_number_or_a_truth_needs_quotes(load, names):
    with pytest.raises(BadInput, match=r"line 2: data\.\w+.*\(put it in quotes\)\. Received: "):
        load(f"name: demo\ndata: {{source: a, task: regression, {names}}}\n")


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"decimal": ",", "thousands": ","}, "decimal and thousands must not be the same mark"),
        ({"decimal": ";"}, r"data\.decimal: "),
        ({"formats": {"day": "dd.mm.yyyy"}}, r"must be iso, ymd, dmy, mdy, epoch_s, .* or a pattern as %d"),
        ({"formats": {"day": "%Q"}}, "or a pattern as %d"),
        ({"formats": {"day": "%d%d"}}, "or a pattern as %d"),
        ({"formats": {"day": "100 %"}}, "or a pattern as %d"),
        ({"formats": {"y": "iso"}}, "formats must not name the target"),
        ({"kinds": {"y": "numeric"}}, "kinds must not name the target"),
        ({"group": "a", "time": "b"}, "group and time each say how rows are split: name one of them"),
        ({"formats": {"a": "iso"}, "kinds": {"a": "numeric"}}, "formats says that a holds dates, and kinds"),
        ({"encoding": "utf-16"}, "must be an encoding that Python knows and that holds ASCII as it is"),
        ({"encoding": "nonsense"}, "must be an encoding that Python knows"),
        ({"escape": "ab"}, r"data\.escape: "),
        ({"max_quarantine": {"rows": 1.5}}, r"data\.max_quarantine\.rows: .*less than or equal to 1"),
    ],
)
def test_how_text_is_read_is_validated(values, answer):
    with pytest.raises(BadInput, match=answer):
        config.validate({**SMALL, "data": {**SMALL["data"], **values}}, {}, "here")


def test_texts_that_mean_missing_may_be_numbers_of_one_column():
    data = {**SMALL["data"], "missing": {"age": [-1, 999.5, "none"], "note": []}}
    assert config.validate({**SMALL, "data": data}, {}, "here").data.missing == {
        "age": ["-1", "999.5", "none"],
        "note": [],
    }


def test_a_key_given_twice_is_refused(load):
    with pytest.raises(BadInput, match=r"line 7: train\.epochs is given twice"):
        load(TEXT + "train: {epochs: 3,\n  epochs: 4}\n")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("name: [", "not valid YAML"),
        ("name: 2024-13-45", "not valid YAML: month must be in"),
        ("", "must hold keys and values .*Received: None"),
        ("- name", r"must hold keys and values .*Received: \['name'\]"),
    ],
)
def test_what_is_no_mapping_is_refused(load, text, answer):
    with pytest.raises(BadInput, match=r"demo\.yaml " + ("is " if "valid" in answer else "") + answer):
        load(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="no config file of that name.*Received: nowhere.yaml"):
        loading.load("nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(BadInput, match="not UTF-8 text: .* at byte 9"):
        loading.load(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("train.epochs=3", {"train.epochs": 3}),
        ("a=[1, 2],b.c={x: 1, y: 2}", {"a": [1, 2], "b.c": {"x": 1, "y": 2}}),
        ("a=1,2, b=x", {"a": "1,2", "b": "x"}),
        ("data.id=[a,b],data.drop=[c,d]", {"data.id": ["a", "b"], "data.drop": ["c", "d"]}),
        ("a=http://x/?q=1,b=null", {"a": "http://x/?q=1", "b": None}),
        ("a=", {"a": None}),
        ("a='x, y'", {"a": "x, y"}),
    ],
)
def test_overrides(text, values):
    assert loading.parse_overrides(text) == values


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,6}(\.[a-z_]{1,6}){0,2}", fullmatch=True),
        st.one_of(st.integers(), st.booleans(), st.lists(st.integers(), max_size=3), st.text("xyz ,:#'", max_size=6)),
        max_size=4,
    )
)
def test_overrides_are_yaml_whatever_the_values(values):
    parts = []
    for key, value in values.items():
        dumped = yaml.safe_dump(value, default_flow_style=True, width=1000)
        parts.append(f"{key}={dumped.removesuffix('...' + chr(10)).strip()}")
    text = ",".join(parts)
    assert loading.parse_overrides(text) == values


@pytest.mark.parametrize("text", ["train.epochs", "3=4", "=3", "a b=3"])
def test_overrides_that_are_none(text):
    with pytest.raises(BadInput, match=f"set takes dotted overrides .*Received: '{text}'"):
        loading.parse_overrides(text)


def test_an_override_with_a_value_that_is_no_yaml():
    with pytest.raises(BadInput, match=r"The value of train\.epochs is not valid YAML\. Received: '\[3'"):
        loading.parse_overrides("train.epochs=[3")


def test_overrides_win_over_the_file(load):
    loaded = load(TEXT + "train: {epochs: 5, batch_size: 64}\n", "train.epochs=3,register.floors={mae: 1, r2: 2}")
    assert (loaded.train.epochs, loaded.train.batch_size) == (3, 64)
    assert loaded.register_.floors == {"mae": 1, "r2": 2}
    assert load(TEXT, "train.learning_rate=1e-3").train.learning_rate == 0.001


@pytest.mark.parametrize("overrides", ["train.epochs=-1", "train={epochs: -1}"])
def test_a_wrong_override_is_not_blamed_on_a_line(load, overrides):
    with pytest.raises(BadInput, match=r"demo\.yaml, set: train\.epochs: .*Received: -1"):
        load(TEXT + "train: {epochs: 5}\n", overrides)


@pytest.mark.parametrize(
    ("space", "answer"),
    [
        (
            "train.learning_rte: 1",
            r"train\.learning_rte: is no key that can be searched\. Allowed: train\.batch_size, .*: 1",
        ),
        (
            "data.target: {choice: [a]}",
            r"data\.target: is no key .*Allowed: model\.…, train\.…\. Received: {'choice': ",
        ),
        ("model.dropout: {unifrom: [0, 0.1]}", r"model\.dropout: takes values or choice, uniform, .*: {'unifrom'"),
        ("model.hidden: [{chioce: [8]}]", r"model\.hidden: takes values or choice, uniform, .*: \[{'chioce'"),
        (
            "model.dropout: {uniform: [-0.1, 0.1]}",
            r"model\.dropout: .*greater than or equal to 0\. Received: {'uniform'",
        ),
        (
            "model.dropout: {uniform: [0.5, 1.1]}",
            r"model\.dropout: .*less than 1\. Received: {'uniform': \[0\.5, 1\.1\]}",
        ),
        ("train.batch_size: {uniform: [16, 64]}", r"train\.batch_size: .*valid integer, .*{'uniform': \[16, 64\]}"),
        ("train.patience: {quniform: [1, 9, 0.5]}", r"train\.patience: .*valid integer"),
        (
            "train.epochs: {randint: [2, 9]}",
            r"train\.epochs: is the same in every trial: set tune\.epochs, .*{'randint'",
        ),
        ("o: {choice: [{train.epochs: 3}]}", r"o\.choice\.0\.train\.epochs: is the same in every trial"),
        ("train.learning_rate: {normal: [-1, 0.1]}", r"train\.learning_rate: .*greater than 0"),
        ("model.hidden: [8, {randint: 4}]", r"model\.hidden: .*greater than or equal to 1"),
        ("o: {choice: [{train.optimizer: {choice: [sgd, adm]}}]}", r"o\.choice\.0\.train\.optimizer: .*'adamw'\. Rec"),
        (
            "train.momentum: {uniform: [0.9, 0.1]}",
            r"train\.momentum: uniform takes low < high\. Received: \[0\.9, 0\.1\]",
        ),
    ],
)
def test_a_search_space_gives_only_what_the_config_takes(load, space, answer):
    with pytest.raises(BadInput, match=rf"demo\.yaml, line 8: tune\.space\.{answer}"):
        load(TEXT + f"tune:\n  space:\n    {space}\n")


@pytest.mark.parametrize("space", ["{}", "{o: {}}", "{o: {choice: [{}]}}"])
def test_a_search_space_with_nothing_to_search_is_refused(load, space):
    with pytest.raises(BadInput, match=r"demo\.yaml, line 7: tune\.space: holds nothing to search: .*Received: {"):
        load(TEXT + f"tune:\n  space: {space}\n")
    assert load(TEXT + "tune: {space: null}\n").tune.space is None


def test_search_spaces_up_to_the_ends_of_what_the_config_takes(load):
    space = """
    model.dropout: {uniform: [0, 1]}
    train.batch_size: {quniform: [16, 64, 16]}
    train.weight_decay: {choice: [0, {loguniform: [0.001, 0.3]}]}
    model.layers: [{type: dense, units: {randint: [1, 9]}}]
    train.gradient_clip: {choice: [null, {lognormal: [0, 1]}]}
"""
    assert len(load(TEXT + f"tune:\n  space:{space}").tune.space) == 5


def test_overridden_leaves_the_rest_and_the_original_alone():
    small = config.validate(SMALL, {}, "here")
    more = small.overridden({"train.epochs": 3, "register.tolerance": 0.5})
    assert (more.train.epochs, more.register_.tolerance, small.train.epochs) == (3, 0.5, 0)
    assert more.overridden({"train.epochs": 0, "register.tolerance": 0.01}) == small
    with pytest.raises(BadInput, match=r"override: train\.epochs: .*Received: 'many'"):
        small.overridden({"train.epochs": "many"})


def test_values_never_change_after_validation():
    with pytest.raises(Exception, match="frozen"):
        config.validate(SMALL, {}, "here").train.epochs = 3


def test_the_schema_names_every_section_and_key():
    schema = loading.json_schema()
    assert set(schema["properties"]) == {field.alias or name for name, field in Config.model_fields.items()}
    assert set(schema["required"]) == {"name", "data"}
    for section in (Data, BatchInfer, ImageSize, Split):
        assert set(schema["$defs"][section.__name__]["properties"]) == set(section.model_fields)
        assert schema["$defs"][section.__name__]["additionalProperties"] is False


@pytest.mark.parametrize(("task", "metric"), [("regression", "rmse"), ("binary", "log_loss"), ("image", "log_loss")])
def test_candidates_are_compared_by_one_metric(task, metric):
    tree = {**SMALL, "data": {**SMALL["data"], "task": task}}
    assert config.validate(tree, {}, "here").primary_metric == metric


@pytest.mark.parametrize(
    ("task", "settings", "place"),
    [
        ("binary", {"train": {"objective": "squared"}}, "train.objective"),
        ("binary", {"evaluation": {"primary_metric": "mae"}}, "evaluation.primary_metric"),
        ("regression", {"evaluation": {"primary_metric": "log_loss"}}, "evaluation.primary_metric"),
    ],
)
def test_losses_and_metrics_go_with_their_task(task, settings, place):
    with pytest.raises(BadInput, match=f"{place}: does not go with the task {task}"):
        config.validate({**SMALL, "data": {**SMALL["data"], "task": task}, **settings}, {}, "here")


def test_a_loss_follows_the_metric_unless_one_is_asked_for():
    regression = {**SMALL, "data": {**SMALL["data"], "task": "regression"}}

    def of(**settings):
        return config.validate({**regression, **settings}, {}, "here").sized(100).train.objective

    assert (of(), of(evaluation={"primary_metric": "mae"})) == ("squared", "absolute")
    assert of(train={"objective": "race"}) == "race"  # training finds it out, by rmse alone
    assert of(train={"objective": "race"}, evaluation={"primary_metric": "mae"}) == "absolute"
    assert of(evaluation={"primary_metric": "poisson_deviance"}, train={"objective": "gamma"}) == "gamma"


def test_batches_and_epochs_follow_the_rows():
    small = config.validate(SMALL, {}, "here")
    sizes = {
        rows: (c := small.sized(rows)).train.batch_size and (c.train.batch_size, c.train.epochs)
        for rows in (1, 150, 4_000, 240_000, 10**7)
    }
    assert sizes == {1: (16, 60), 150: (16, 60), 4_000: (32, 24), 240_000: (512, 7), 10**7: (512, 6)}
    chosen = small.overridden({"train.batch_size": 7, "train.epochs": 2, "tune.epochs": 5}).sized(1000)
    assert (chosen.train.batch_size, chosen.train.epochs, chosen.tune.epochs) == (7, 2, 5)
    networks = {rows: (m := small.sized(rows).model).hidden and (m.hidden, m.members, m.networks) for rows in sizes}
    assert networks[150] == networks[4_000] == ([128, 128], 4, 4)
    assert networks[240_000] == networks[10**7] == ([512, 256], 1, 1)
    assert small.overridden({"model.networks": 2, "model.members": 3}).sized(150).model.networks == 2
    rates = {rows: round(small.sized(rows).train.learning_rate, 6) for rows in (150, 240_000)}
    assert rates == {150: 0.00053, 240_000: 0.003}  # with the root of the batch size
    assert [small.sized(rows).train.patience for rows in (150, 240_000)] == [10, 4]


def test_of_many_pictures_fewer_epochs_are_enough():
    pictures = config.validate({**SMALL, "data": {**SMALL["data"], "task": "image"}}, {}, "here")
    rows = 500, 4_000, 60_000, 10**6
    assert [pictures.sized(count).train.epochs for count in rows] == [60, 24, 12, 6]
    small, tables = (each.sized(4_000) for each in (pictures, config.validate(SMALL, {}, "here")))
    assert (small.train.label_smoothing, small.train.weight_average, small.model.dropout) == (0.1, 0.5, 0.3)
    assert (tables.train.label_smoothing, tables.train.weight_average, tables.model.dropout) == (0, 0, 0.1)
    assert small.train.learning_rate == pytest.approx(0.002) and small.train.patience == 8
    own = {"train.label_smoothing": 0, "train.weight_average": 0, "model.dropout": 0}
    own = pictures.overridden(own).sized(4_000)
    assert (own.train.label_smoothing, own.train.weight_average, own.model.dropout) == (0, 0, 0)


def test_drop_cannot_name_what_is_needed():
    with pytest.raises(BadInput, match="drop names cost, which another key of data needs"):
        config.validate(
            {"name": "x", "data": {"source": "a", "target": "cost", "task": "regression", "drop": ["cost"]}}, {}, "here"
        )


@pytest.mark.parametrize(("written", "path"), [
    ("dbfs:/Volumes/main/ml/files/a.csv", "/Volumes/main/ml/files/a.csv"),
    ("dbfs:/data/a.csv", "/dbfs/data/a.csv"),
    ("/Volumes/main/ml/files/a.csv", "/Volumes/main/ml/files/a.csv"),
    ("table:main.ml.rows", "table:main.ml.rows"),
])  # fmt: skip
def test_places_of_databricks_are_paths(written, path):
    tree = {"name": "t", "data": {"source": written, "target": "y", "task": "regression"}, "warehouse": written}
    found = config.validate(tree | {"batch_infer": {"source": written, "output": "out"}}, {}, "test")
    assert (found.data.source, found.warehouse, found.to_score().source) == (path,) * 3


def test_an_output_may_be_a_table():
    tree = {"name": "t", "data": {"source": "-", "target": "y", "task": "regression"}, "warehouse": "dbfs:/w"}
    tabled = tree | {"batch_infer": {"source": "-", "output": "table:main.ml.predictions"}}
    found = config.validate(tabled, {}, "test")
    assert found.to_score().table == "main.ml.predictions"
    assert found.to_score().output == "/dbfs/w/predictions/main.ml.predictions"
    assert config.validate(found.dump(), {}, "test") == found
    with pytest.raises(BadInput, match="batch_infer.table"):
        config.validate(tree | {"batch_infer": {"source": "-", "output": "table:a;b"}}, {}, "test")
