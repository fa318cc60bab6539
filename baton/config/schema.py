"""The pipeline config: one YAML file and dotted overrides in, one validated `Config` out.

Every default lives here and nowhere else. A wrong key or value raises `BadInput` that names its
path, its line, what is allowed and what was received.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from baton import names
from baton.config import space as spaces
from baton.config.places import mounted
from baton.errors import BadInput
from baton.redaction import MASK, names_secret

Task = Literal["regression", "binary", "multiclass", "image"]
Kind = Literal["numeric", "boolean", "categorical", "datetime"]
Activation = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softmax", "maxout", "gelu", "silu"]
Objective = Literal["auto", "race", "squared", "absolute", "huber", "poisson", "tweedie", "gamma", "log_squared"]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Place = Annotated[str, AfterValidator(mounted)]
MEMBER = re.compile(r"models:/[^/]+/\d+")  # a version that may be an ensemble's
TABLE = "table:"  # how a place begins that is a Spark table
TABLE_NAME = r"^\w+(\.\w+){0,2}$"
Columns = Annotated[list[str], Field(default_factory=list)]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, which pydantic would take for the number 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation is not bool and bool not in get_args(annotation):
            raise ValueError("true and false are not allowed here")
        return value


class Split(Section):
    """The share of each split; the three add up to 1."""

    train: Fraction = 0.8
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares must add up to 1, not to {total:g}")
        if empty := [name for name in names.SPLITS if getattr(self, name) == 0]:
            raise ValueError(f"{' and '.join(empty)} must be above 0: validation chooses, and test judges at the gate")
        return self


class MaxQuarantine(Section):
    """The share of the rows that ingest may set aside before it refuses the source."""

    rows: Fraction = Field(0.2, description="of all rows, for any reason")
    unreadable_targets: Fraction = Field(
        0.01, description="of all rows, for a target that is there and cannot be read; a missing one is none"
    )


class ImageSize(Section):
    """What every image is decoded and resized to; the default is the most common in train."""

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3] = 3


class Data(Section):
    """Where the rows come from, what is predicted, and how columns are read."""

    source: Place = Field(description="CSV or Parquet file, folder or glob; table:<name>; image folder")
    target: str = Field("label", description="column to predict; an image folder's is its folders' names")
    task: Task
    id: list[str] = Field([], description="columns that identify a row; no features; decide the split")
    group: str | None = Field(None, description="column whose equal values never straddle two splits")
    time: str | None = Field(
        None, description="column to split by, of dates or numbers: oldest rows train, newest test"
    )
    split_column: str | None = Field(
        None, description="column that says each row's split: train, validation (valid, val, dev) or test; no feature"
    )
    drop: list[str] = Field([], description="columns that are not used as features")
    kinds: dict[str, Kind] = Field({}, description="overrules the inferred kind of a column")
    missing: list[str] | dict[str, list[str]] | None = Field(
        None,
        description="texts of cells that hold no value, of all columns or {column: texts}; empty cells never do; "
        "default: NA, null and the like, but in classes to be predicted none",
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="decimal mark of numbers in text; default: what a whole column says"
    )
    thousands: Literal["", ",", ".", " ", "'"] | None = Field(
        None, description="what separates thousands of numbers in text; default: what a whole column says"
    )
    formats: dict[str, str] = Field(
        {},
        description="how a column's dates are written: iso, ymd, dmy, mdy, epoch_s (_ms, _us, _ns), or as %d.%m.%y",
    )
    max_quarantine: MaxQuarantine = MaxQuarantine()
    split: Split = Split()
    numeric: Literal["standard", "quantile"] = Field("standard", description="encoding of numbers")
    max_categories: int = Field(10_000, ge=1, description="larger vocabularies keep the most frequent")
    min_category_count: int = Field(2, ge=1, description="rarer categories share the unknown slot")
    rows_per_value: int = Field(
        10,
        ge=0,
        description="numbers and dates with so many rows a distinct value are embedded as categories too; 0: none",
    )
    row_group_size: int = Field(16_384, ge=1, description="rows a Parquet row group, at most")
    reference_rows: int = Field(
        5000, ge=0, description="train rows that travel in the model, for batch_infer.drift's classifier"
    )
    image_column: str | None = Field(None, description="image bytes; default: the only binary column")
    image_size: ImageSize | None = None
    max_image_pixels: int = Field(
        50_000_000, ge=1, le=89_478_485, description="an image of more is quarantined before it is decoded"
    )
    image_background: int = Field(
        names.IMAGE_BACKGROUND,
        ge=0,
        le=255,
        description="the grey behind what is transparent in an image; 255: white",
    )
    encoding: str = Field("utf-8", description="of CSV files, as Python calls it: latin-1, cp1252, …")
    escape: str | None = Field(
        None, pattern=r"^[!#-~]$", description="what makes plain text of the quote after it, in CSV files: \\"
    )
    delimiter: str = Field(",", pattern=r"^[\t -!#-~]$", description="of CSV files: one character of ASCII, no quote")
    spark_above_mb: int = Field(2048, ge=0, description="engine auto takes Spark for larger inputs")

    @field_validator("missing", mode="before")
    @classmethod
    def _takes_numbers(cls, value: Any) -> Any:
        """YAML reads -1 as a number; a cell is text."""
        if isinstance(value, dict):
            return {key: _texts(texts) for key, texts in value.items()}
        return _texts(value)

    @field_validator("encoding")
    @classmethod
    def _keeps_ascii(cls, value: str) -> str:
        """Quotes, delimiters and line ends are looked for as bytes."""
        ascii_text = "".join(map(chr, range(128)))
        try:
            good = ascii_text.encode(value) == ascii_text.encode()
        except (LookupError, UnicodeError):
            good = False
        return _demanded(value, good, "must be an encoding that Python knows and that holds ASCII as it is")

    @field_validator("formats")
    @classmethod
    def _are_formats(cls, value: dict[str, str]) -> dict[str, str]:
        bad = [text for text in value.values() if text not in DATE_FORMATS and not _is_pattern(text)]
        return _demanded(value, not bad, f"must be {', '.join(DATE_FORMATS)}, or a pattern as %d.%m.%Y")

    @model_validator(mode="after")
    def _splits_by_one_rule(self) -> Data:
        rules = [key for key in ("group", "time", "split_column") if getattr(self, key)]
        if len(rules) > 1:
            raise ValueError(f"{' and '.join(rules)} each say how rows are split: name one of them")
        return self

    @model_validator(mode="after")
    def _says_a_kind_once(self) -> Data:
        if named := [key for key in ("kinds", "formats") if self.target in getattr(self, key)]:
            raise ValueError(f"{' and '.join(named)} must not name the target: the task says what it is")
        if both := sorted(name for name in self.formats if self.kinds.get(name, "datetime") != "datetime"):
            raise ValueError(f"formats says that {', '.join(both)} holds dates, and kinds something else")
        return self

    @model_validator(mode="after")
    def _separates_by_two_marks(self) -> Data:
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError("decimal and thousands must not be the same mark")
        return self

    @model_validator(mode="after")
    def _drops_nothing_it_needs(self) -> Data:
        named = (self.target, self.group, self.time, self.split_column, self.image_column, *self.id)
        needed = [name for name in named if name]
        if both := sorted(set(needed) & set(self.drop)):
            raise ValueError(f"drop names {', '.join(both)}, which another key of data needs")
        return self


class Views(Section):
    """Windows of a picture that are seen as large as it: at each scale of each square each crop, mirrored or not, too.

    At a scale of 2 a crop is half a picture wide and high. Windows that are the same count once.
    """

    scales: list[Annotated[float, Field(ge=1, le=8)]] = Field(
        [1.0], min_length=1, max_length=8, description="how much larger than the crop the picture is, at each"
    )
    squares: Literal[1, 3] = Field(1, description="1: the picture; 3: its left, middle and right part, or up to down")
    crops: Literal[1, 5, 6] = Field(1, description="of each: 1 its middle; 5 its corners too; 6 the whole of it too")
    mirror: bool = Field(False, description="each with left and right exchanged, too")


class Model(Section):
    """The network, as data. `layers` (a Sequential stack) or `graph` (a Functional one) overrule `recipe`."""

    recipe: Literal["linear", "mlp", "cnn"] | None = Field(None, description="default: mlp for tables, cnn for images")
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        [], max_length=50, description="units of mlp's hidden layers; []: by the number of rows"
    )
    activation: Activation = "relu"
    dropout: float | None = Field(None, ge=0, lt=1, description="default: 0.3 for images, else 0.1")
    batch_normalization: bool | None = Field(None, description="default: in cnn, not in mlp")
    embedding: int = Field(16, ge=1, le=1024, description="width of each category's embedding")
    numbers: Literal["plain", "piecewise_linear"] = Field(
        "piecewise_linear", description="how mlp sees numbers; 32 quantile bins each, or as they are"
    )
    number_width: int = Field(12, ge=1, le=1024, description="width of each piecewise-linear number")
    category_dropout: bool = Field(True, description="whether training takes rare categories for unknown, now and then")
    cross_rank: int = Field(64, ge=0, le=4096, description="of the products of features that mlp gets; 0: none")
    networks: int = Field(
        0, ge=0, le=16, description="of mlp, trained side by side, whose mean predicts; 0: by the rows"
    )
    members: int = Field(0, ge=0, le=64, description="of mlp's ensemble, which share most weights; 0: by the rows")
    filters: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [], max_length=12, description="of cnn's convolutions, a number a stage; []: 32, 64 and 128"
    )
    convolutions: int = Field(2, ge=1, le=20, description="of each of cnn's stages")
    backbone: str | None = Field(
        None, description="of images: one of keras.applications' networks, or a .keras file, up to its last map"
    )
    weights: str = Field(
        "none",
        description="the backbone's: none, imagenet (downloaded), a file, or models:/name@alias of Baton's",
    )
    views: Literal["none", "auto", "mirror", "ten_crops", "googlenet"] | Views = Field(
        "none",
        description="of each picture to score, whose mean is the answer: none (the picture alone), auto (those by "
        "which validation is surely better), mirror, ten_crops, googlenet (144), or {scales, squares, crops, mirror}",
    )
    l2: float = Field(0.0, ge=0)
    layers: list[dict[str, Any]] | None = Field(None, description="Sequential: [{type: dense, …}, …]")
    graph: list[dict[str, Any]] | None = Field(
        None, description="Functional: [{name, type, inputs: […], …}, …]; the last is the output"
    )

    @field_validator("views", mode="before")
    @classmethod
    def _names_windows(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return Views.model_validate(value)  # alone: its faults are named by their own place
        words = ("none", "auto", *VIEWS)
        good = isinstance(value, Views) or value in words
        return _demanded(value, good, f"must be {', '.join(words)} or a mapping of {', '.join(Views.model_fields)}")


class RandAugment(Section):
    """So many operations a picture, each of a kind by chance (Cubuk et al., "RandAugment", 2020)."""

    operations: int = Field(2, ge=0, le=10)
    magnitude: Fraction = Field(0.3, description="of each: 1 turns by 30 degrees")


class Augment(Section):
    """How training changes pictures, by chance and anew in each epoch; what is not named is not done."""

    flip: Literal["auto"] | bool = Field(
        False, description="left and right exchanged, half the time; auto: where a probe shows that classes stay"
    )
    vertical_flip: bool = Field(False, description="top and bottom exchanged, half the time")
    shift: float = Field(0.0, ge=0, lt=1, description="at most, as a share of each side; whole pixels")
    rotation: float = Field(0.0, ge=0, le=180, description="at most, degrees to either side")
    zoom: float = Field(0.0, ge=0, lt=1, description="at most, larger or smaller by that share")
    crop: float = Field(0.0, ge=0, lt=1, description="share of the area that is cut away, at most")
    contrast: Fraction = Field(0.0, description="at most, more or less by that share")
    brightness: Fraction = Field(0.0, description="at most, lighter or darker by that share of white")
    colour: Fraction = Field(0.0, description="at most, more or less saturated by that share")
    erasing: Fraction = Field(0.0, description="how often a patch is erased, of 2 to 20 % of the area")
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution by which pictures are blended")
    cutmix: float = Field(0.0, ge=0, description="the same of the area that is another picture's")
    randaugment: RandAugment | None = None


class Fit(Section):
    """How a network is trained."""

    epochs: int = Field(0, ge=0, description="0: by the number of rows, 6 to 60")
    batch_size: int = Field(0, ge=0, description="0: by the number of rows, 16 to 512")
    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"] = "adamw"
    learning_rate: float | None = Field(
        None, gt=0, description="default: by the batch size, 0.003 for 512 rows, of images 0.008"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float | None = Field(1.0, gt=0, description="largest global norm of a gradient")
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    warmup_epochs: float = Field(0.5, ge=0)
    objective: Objective = Field(
        "auto",
        description="a regression's loss; auto: that of evaluation.primary_metric; race: for rmse that of squared, "
        "poisson and log_squared which validation surely prefers. poisson, tweedie, gamma and log_squared are for "
        "counts and amounts: every prediction is above 0",
    )
    augment: Literal["auto", "none"] | Augment = Field(
        "auto", description="of pictures: auto (light, a flip if classes stay), none, or {operation: strength}"
    )
    transfer: Literal["auto", "scratch", "probe", "head_then_blocks", "all"] = Field(
        "auto",
        description="what becomes of a backbone's weights: auto (measured on validation), scratch (the default CNN "
        "without it), probe (a linear head alone), head_then_blocks (its last blocks after the head), all (its blocks)",
    )
    transfer_depth: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="the block after which the backbone is cut, 1 the shallowest; auto: the best probe's"
    )
    label_smoothing: float | None = Field(
        None, ge=0, lt=1, description="share of each target that all classes share; default: 0.1 for images, else 0"
    )
    weight_average: float | None = Field(
        None, ge=0, description="epochs that the weights are averaged over; default: 0.5 for images, else 0: not at all"
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without progress before training stops; default: a sixth of the epochs, of images a third",
    )
    shuffle_rows: int = Field(1 << 20, ge=1, description="rows shuffled, and held, at once")
    steps_per_execution: int = Field(32, ge=1)
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = Field(
        "none", description="weight of each class's rows in the loss; those that are not named have 1"
    )
    calibrate: bool = Field(True, description="temperature of classes' probabilities, where validation is better by it")
    threshold: Literal["argmax", "f1", "balanced_accuracy"] | OpenFraction = Field(
        "argmax", description="probability above which the second of two classes is predicted; chosen on validation"
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _names_operations(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return Augment.model_validate(value)  # alone: its faults are named by their own place
        good = isinstance(value, Augment) or value in ("auto", "none")
        return _demanded(value, good, f"must be auto, none or a mapping of {', '.join(Augment.model_fields)}")

    @field_validator("class_weights", mode="before")
    @classmethod
    def _names_classes(cls, value: Any) -> Any:
        """YAML reads the class 3 as a number and true as a boolean; the data's classes are text."""
        if value in ("none", "balanced") or not isinstance(value, dict):
            return _demanded(value, value in ("none", "balanced"), "must be none, balanced or {class: weight}")
        good = all(_is_number(weight) and 0 < weight < math.inf for weight in value.values())
        return _demanded({_class_name(k): v for k, v in value.items()}, good, "must give each class a weight above 0")

    @field_validator("transfer_depth", mode="before")
    @classmethod
    def _is_a_block(cls, value: Any) -> Any:
        good = value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
        return _demanded(value, good, "must be auto or the number of a block, 1 or more")

    @field_validator("threshold", mode="before")
    @classmethod
    def _is_inside(cls, value: Any) -> Any:
        good = value in ("argmax", "f1", "balanced_accuracy") or (_is_number(value) and 0 < value < 1)
        return _demanded(value, good, "must be argmax, f1, balanced_accuracy or a number between 0 and 1")


class Evaluation(Section):
    """How a model is looked at on validation and test data."""

    confidence: float = Field(0.95, ge=0.5, lt=1, description="of the intervals of metrics and slices")
    resamples: int = Field(1000, ge=100, le=100_000, description="of the rows, for the metrics' intervals")
    slice_rows: int = Field(50, ge=10, description="fewer rows are no slice")
    primary_metric: (
        Literal["rmse", "mae", "poisson_deviance", "tweedie_deviance", "gamma_deviance", "log_loss"] | None
    ) = Field(
        None,
        description="what stopping, search, the choice among candidates and the gate go by; default: rmse, of classes "
        "log_loss",
    )


@dataclass(frozen=True)
class Unsaid:
    """What a config that says nothing of it gets, of tables or of images."""

    learning_rate: float  # of batches of 512 rows
    dropout: float
    label_smoothing: float
    weight_average: float  # epochs
    patience: int  # so many of it are all epochs
    rows: float  # that all epochs see, at most


OF_TABLES = Unsaid(0.003, 0.1, 0.0, 0.0, 6, math.inf)
OF_IMAGES = Unsaid(0.008, 0.3, 0.1, 0.5, 3, 720_000)
# The metric that a regression is judged by → the loss that it learns by.
OBJECTIVES = {
    "rmse": "squared",
    "mae": "absolute",
    "poisson_deviance": "poisson",
    "tweedie_deviance": "tweedie",
    "gamma_deviance": "gamma",
}
EPOCHS = 6, 60  # at least, at most
FILTERS = [32, 64, 128]  # of the stages of the default for images
AUGMENT = Augment(flip="auto", shift=0.08, contrast=0.1, erasing=0.3)
LARGER = [8 / 7, 9 / 7, 10 / 7, 11 / 7]  # pictures of 256, 288, 320 and 352 pixels for crops of 224
# Words of `model.views`: two of Krizhevsky et al., 2012, section 4.1, and of Szegedy et al., 2015, section 7.
VIEWS = {
    "mirror": Views(mirror=True),
    "ten_crops": Views(scales=LARGER[:1], crops=5, mirror=True),
    "googlenet": Views(scales=LARGER, squares=3, crops=6, mirror=True),
}
# Train rows at most → hidden layers, members and networks of the default for tables.
SIZES: list[tuple[float, list[int], int, int]] = [
    (10_000, [128, 128], 4, 4),
    (100_000, [256, 128], 1, 8),
    (math.inf, [512, 256], 1, 1),
]
DATE_FORMATS = ("iso", "ymd", "dmy", "mdy", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
# Keys of earlier versions → what they are called now.
RENAMED = {
    "model.forget": "model.category_dropout",
    "data.travel_rows": "data.reference_rows",
    "data.rows_per_group": "data.row_group_size",
}
SEARCHED: dict[str, type[Section]] = {"model": Model, "train": Fit}  # what a trial can change


class Tune(Section):
    """The search for hyperparameters."""

    algorithm: Literal["tpe", "random"] = "tpe"
    max_trials: int = Field(12, ge=1)
    time_budget_s: float = Field(90, gt=0)
    parallelism: int = Field(2, ge=1)
    generation: int = Field(4, ge=1, description="trials proposed together")
    epochs: int = Field(0, ge=0, description="of a trial; 0: a third of train's")
    max_rows: int = Field(250_000, ge=1, description="training rows a trial sees")
    hang_timeout_s: float = Field(
        120, gt=0, description="a local trial that trains and scores no batch for so long has failed"
    )
    space: dict[str, Any] | None = Field(
        None, description="default: one of conf/spaces, for tables, images or transfer"
    )

    @field_validator("space")
    @classmethod
    def _gives_only_what_a_config_takes(cls, tree: dict[str, Any] | None) -> dict[str, Any] | None:
        """Hyperopt would fail, or every trial, one by one; pydantic adds the faults to the config's own."""
        if tree is None:
            return None
        found = spaces.faults(tree) or [fault for each in spaces.settings(tree) if (fault := _setting_fault(*each))]
        if not found and not any(spaces.settings(tree)):
            found = [
                ((), "holds nothing to search: leave it out for the default, or name a key of model or train", tree)
            ]
        if found:
            told: list[InitErrorDetails] = [
                {"type": PydanticCustomError("space", f"{rule}"), "loc": place, "input": received}  # type: ignore[misc]
                for place, rule, received in found
            ]
            raise ValidationError.from_exception_data("space", told)
        return tree


class DistributedTrain(Section):
    """Training by Horovod workers."""

    workers: int = Field(2, ge=1)
    launcher: Literal["horovodrun", "spark"] = "horovodrun"
    scale_learning_rate: bool = True
    warmup_epochs: float = Field(1.0, ge=0)
    batch_size: int | None = Field(None, ge=1, description="of each worker; default: train's")
    start_timeout_s: int = Field(120, ge=1)
    hang_timeout_s: float = Field(
        120, gt=0, description="workers that train and score no batch for so long hang: they are lost"
    )
    max_restarts: int = Field(2, ge=0, description="after the loss of a worker, from the last epoch's checkpoint")


class Explain(Section):
    """SHAP values of the registered model, on test rows; of images where it looks, and what its convolutions learnt."""

    rows: int = Field(1000, ge=0, description="explained, of an image 24 at most; 0 explains none")
    background: int = Field(100, ge=1, description="rows that stand for not knowing a value; of images 10 at most")
    seconds: float = Field(20, gt=0, description="for all rows; too few explain less, or nothing")
    feature_maps: bool = Field(
        True, description="of images: first filters, feature maps, and pictures that a small change turns"
    )
    grad_cam: bool = Field(True, description="of images: where the network sees the class, in right and in wrong ones")


class Audit(Section):
    """The search for wrong labels, by cross-validation."""

    folds: int = Field(3, ge=0, le=20, description="networks trained, each without rows it judges; 0 audits nothing")
    rows: int = Field(50_000, ge=20, description="these networks learn from, at most; all rows are judged")
    seconds: float = Field(40, gt=0, description="for all of it; too few cut epochs, then rows, or audit nothing")

    @field_validator("folds")
    @classmethod
    def _no_single_fold(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold would leave no row to learn from: 0, or at least 2")
        return folds


class Costs(Section):
    """What models and views of pictures cost, and what they bring: register's table of both, on test rows."""

    seconds: float = Field(0, ge=0, description="for all of it; what they are too few for is left out; 0: no table")
    rows: int = Field(10_000, ge=1, description="test rows that are asked, at most")


class Register(Section):
    """The gate before the registry's champion."""

    model: str | None = Field(
        None, min_length=1, description="registered model; default: name; catalog.schema.model in Unity Catalog"
    )
    promote: Literal["auto", "manual"] = "auto"
    policy: Literal["better", "not_worse"] = Field(
        "better", description="than the champion: surely better, or surely not worse than the tolerance allows"
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="that no model passes which is not better, over all looks at one test set"
    )
    resamples: int = Field(
        2000, ge=100, le=1_000_000, description="of the test rows, for the interval of a ranking metric"
    )
    tolerance: float = Field(
        0.01, ge=0, description="with not_worse: how much worse may pass, as a share of the champion's metric"
    )
    floors: dict[str, float] = Field({}, description="test metric → worst value allowed")
    min_test_rows: int = Field(10, ge=1, description="fewer test rows promote nothing")
    ensemble: Literal["none", "auto"] | list[str] = Field(
        "none", description="of the candidates (auto), and of versions too: a list of models:/<name>/<version>"
    )
    explain: Explain = Explain()
    audit: Audit = Audit()
    costs: Costs = Costs()

    @field_validator("ensemble", mode="before")
    @classmethod
    def _names_members(cls, value: Any) -> Any:
        good = all(isinstance(v, str) and MEMBER.fullmatch(v) for v in value) if isinstance(value, list) else False
        return _demanded(value, good or value in ("none", "auto"), "must be none, auto or a list of models:/name/3")


class Drift(Section):
    """How far new rows may lie from the training rows before batch_infer warns."""

    measure: bool = Field(True, description="compare what was scored with what the model was trained on")
    psi: float = Field(0.2, gt=0, description="population stability index of a column")
    auc: float = Field(0.75, gt=0.5, lt=1, description="of a classifier that tells new rows from training rows")
    missing: float = Field(0.05, gt=0, le=1, description="change of the share of missing cells")
    unseen: float = Field(0.05, gt=0, le=1, description="share of cells of new categories, beyond what is expected")
    rows: int = Field(50_000, ge=1, description="scored rows that are looked at, at most")


class BatchInfer(Section):
    """What is scored, and where the predictions go."""

    source: Place
    output: Place = Field(description="a folder, or table:<catalog.schema.name>")
    alias: str = Field(names.CHAMPION, description="the model when no register run is given")
    model: str | None = Field(
        None, min_length=1, description="registered model that scores, where people promote into another than name"
    )
    allow_unvalidated: bool = Field(False, description="score with a version that did not pass the gate, too")
    batch_rows: int = Field(65_536, ge=1)
    drift: Drift = Drift()
    interval: float | None = Field(
        None, description="level of the interval beside each prediction of a regression: 0.8, 0.9 or 0.95"
    )
    table: str | None = Field(
        None, pattern=TABLE_NAME, description="Spark table that the predictions replace too, which output may name"
    )

    @field_validator("interval")
    @classmethod
    def _is_kept(cls, value: float | None) -> float | None:
        if value not in (None, *names.INTERVAL_LEVELS):
            raise ValueError(f"must be null or one of {', '.join(map(str, names.INTERVAL_LEVELS))}")
        return value


class Spark(Section):
    """The Spark session of `engine: spark`."""

    master: str | None = Field(None, description="default: local[cores]")
    config: dict[str, str] = {}


class Config(Section):
    """A whole pipeline. `name` is also the experiment's and the registered model's, unless keys name these."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=200)
    experiment: str | None = Field(None, min_length=1, description="MLflow's experiment; default: name")
    seed: int = Field(7, ge=0, lt=2**31)
    engine: Literal["auto", "local", "spark"] = "auto"
    warehouse: Place = "warehouse"
    retention_days: int = Field(30, ge=0, description="what nothing refers to is kept so long from make gc")
    data: Data
    model: Model = Model()
    train: Fit = Fit()
    tune: Tune = Tune()
    distributed_train: DistributedTrain = DistributedTrain()
    evaluation: Evaluation = Evaluation()
    register_: Register = Field(Register(), alias="register")
    batch_infer: BatchInfer | None = None
    spark: Spark = Spark()

    @model_validator(mode="before")
    @classmethod
    def _table_as_output(cls, tree: Any) -> Any:
        """An output `table:name` → the table, and a folder of the warehouse that what is written there is kept in."""
        section = (tree.get("batch_infer") if isinstance(tree, dict) else None) or {}
        output = section.get("output") if isinstance(section, dict) else None
        if not isinstance(output, str) or not output.startswith(TABLE):
            return tree
        table = output.removeprefix(TABLE)
        folder = f"{tree.get('warehouse', 'warehouse')}/predictions/{table}"
        return {**tree, "batch_infer": {**section, "output": folder, "table": table}}

    @model_validator(mode="after")
    def _suits_the_task(self) -> Config:
        """What only some tasks have is asked of those alone."""
        task, classes = self.data.task, self.data.task != "regression"
        interval = None if self.batch_infer is None else self.batch_infer.interval
        metric = self.evaluation.primary_metric
        unsuited = [
            (("train", "class_weights"), classes or self.train.class_weights == "none", self.train.class_weights),
            (("model", "backbone"), task == "image" or not self.model.backbone, self.model.backbone),
            (("model", "weights"), task == "image" or self.model.weights == "none", self.model.weights),
            (("model", "views"), task == "image" or self.model.views == "none", self.model.views),
            (("train", "augment"), task == "image" or self.train.augment == "auto", self.train.augment),
            (("train", "transfer"), task == "image" or self.train.transfer == "auto", self.train.transfer),
            (("train", "label_smoothing"), classes or not self.train.label_smoothing, self.train.label_smoothing),
            (("train", "objective"), not classes or self.train.objective == "auto", self.train.objective),
            (("evaluation", "primary_metric"), metric is None or classes == (metric == "log_loss"), metric),
            (("train", "threshold"), task == "binary" or self.train.threshold == "argmax", self.train.threshold),
            (("batch_infer", "interval"), not classes or interval is None, interval),
        ]
        rule = f"does not go with the task {task}"
        told: list[InitErrorDetails] = [
            {"type": PydanticCustomError("task", rule), "loc": place, "input": received}  # type: ignore[misc]
            for place, good, received in unsuited
            if not good
        ]
        if told:
            raise ValidationError.from_exception_data("task", told)
        return self

    @property
    def experiment_name(self) -> str:
        """MLflow's experiment that the pipeline's runs are in."""
        return self.experiment or self.name

    @property
    def registered_model(self) -> str:
        """The registered model that register makes versions of."""
        return self.register_.model or self.name

    @property
    def scoring_model(self) -> str:
        """The registered model whose alias decides who scores, and which a rollback is of."""
        return (self.batch_infer and self.batch_infer.model) or self.registered_model

    @property
    def transfers(self) -> bool:
        """Whether what a backbone has learnt elsewhere is put to use: it has weights, and `train.transfer` wants them.

        Without weights a backbone is a network as any other, unless `train.transfer` names what is to become of it.
        """
        if self.train.transfer == "scratch":
            return False
        weights = self.model.weights != "none" or (self.model.backbone or "").endswith(".keras")
        return weights or (self.model.backbone is not None and self.train.transfer != "auto")

    def to_score(self) -> BatchInfer:
        """What is scored, and where the predictions go; raises `BadInput` if the config says nothing of it."""
        if self.batch_infer is None:
            raise BadInput("batch_infer needs a section of that name in the config, with source and output.")
        return self.batch_infer

    @property
    def primary_metric(self) -> str:
        """The metric that stops trainings and compares candidates: `rmse` or `log_loss`, if the config names none."""
        return self.evaluation.primary_metric or names.PRIMARY_METRIC[self.data.task]

    @property
    def objective(self) -> str:
        """The loss that a regression learns by if no other one wins a race; of classes `auto`, for there is one."""
        own = self.train.objective
        return OBJECTIVES.get(self.primary_metric, own) if own in ("auto", "race") else own

    @property
    def races_objectives(self) -> bool:
        """Whether training finds out by which loss it learns (`training.objective_race`): targets may still forbid."""
        return self.train.objective == "race" and self.primary_metric == "rmse"

    def sized(self, rows: int) -> Config:
        """The config with what depends on the number of rows filled in for a train split of `rows` rows.

        About a hundred steps an epoch, and enough epochs for about three thousand steps in all; of many images
        fewer. The fewer the rows, the smaller the networks and the more of them.

        Args:
            rows: of the train split.

        Example:
            >>> config.overridden({"train.batch_size": 0}).sized(30_000).train.batch_size
            256
        """
        unsaid = OF_IMAGES if self.data.task == "image" else OF_TABLES
        batch = self.train.batch_size or min(max(2 ** round(math.log2(max(rows, 1) / 100)), 16), 512)
        enough = min(3000 / math.ceil(rows / batch), unsaid.rows / max(rows, 1))
        epochs = self.train.epochs or min(max(math.ceil(enough), EPOCHS[0]), EPOCHS[1])
        _, hidden, members, networks = next(sizes for sizes in SIZES if rows <= sizes[0])
        return self.overridden(
            {
                "train.batch_size": batch,
                "train.epochs": epochs,
                "train.learning_rate": self.train.learning_rate or unsaid.learning_rate * math.sqrt(batch / 512),
                "train.patience": self.train.patience or max(4, epochs // unsaid.patience),
                "train.label_smoothing": _first(self.train.label_smoothing, unsaid.label_smoothing),
                "train.objective": "race" if self.races_objectives else self.objective,
                "train.weight_average": _first(self.train.weight_average, unsaid.weight_average),
                "tune.epochs": self.tune.epochs or max(1, epochs // 3),
                "model.dropout": _first(self.model.dropout, unsaid.dropout),
                "model.hidden": self.model.hidden or hidden,
                "model.filters": self.model.filters or FILTERS,
                "model.members": self.model.members or members,
                "model.networks": self.model.networks or networks,
            }
        )

    def dump(self) -> dict[str, Any]:
        """The config as plain values, with every default filled in, under its YAML names.

        Example:
            >>> config.dump()["train"]["optimizer"]
            'adamw'
        """
        return self.model_dump(mode="json", by_alias=True)

    def overridden(self, values: dict[str, Any]) -> Config:
        """A config with dotted paths replaced, e.g. `{"train.epochs": 3}`; raises `BadInput`.

        Args:
            values: {dotted path: value}; a section that is not there yet is made.

        Raises:
            BadInput: for a path that is no key, or a value that it does not take.

        Example:
            >>> config.overridden({"train.epochs": 5}).train.epochs
            5
        """
        tree = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for path, value in values.items():
            put(tree, path, value)
        return validate(tree, lines={}, where="override")


def validate(tree: dict[str, Any], lines: dict[tuple, int], where: str) -> Config:
    """Plain values → `Config`; raises one `BadInput` that names every fault."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = [_sentence(fault, lines, where) for fault in error.errors()]
        raise BadInput(" ".join(faults)) from None


def _is_pattern(text: str) -> bool:
    """Whether it is a pattern that strptime knows."""
    if "%" not in text:
        return False
    try:
        datetime.strptime("", text)
    except (ValueError, re.error) as error:
        return "does not match" in str(error)
    return False


def _texts(value: Any) -> Any:
    """A list with its numbers as text."""
    return [str(text) if _is_number(text) else text for text in value] if isinstance(value, list) else value


def _demanded(value: Any, good: bool, rule: str) -> Any:
    """The value, if it is good; raises `ValueError` with the rule if not."""
    if not good:
        raise ValueError(rule)
    return value


def _first(own: Any, default: Any) -> Any:
    """A config's own value, if it has one."""
    return default if own is None else own


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _class_name(key: Any) -> str:
    """A key of YAML as the name of the class that it means: 3 and 3.0 are "3", true is "true"."""
    if isinstance(key, bool):
        return str(key).lower()
    return f"{key:.0f}" if isinstance(key, float) and key.is_integer() else str(key)


def _setting_fault(place: spaces.Place, key: str, value: Any) -> spaces.Fault | None:
    """What is wrong with a hyperparameter of a search space, or with a value that can be drawn for it."""
    section, _, name = key.partition(".")
    if key in RENAMED:
        return place, f"is called {RENAMED[key]} now", value
    if key == "train.epochs":
        return place, "is the same in every trial: set tune.epochs, and train.epochs for the training", value
    if key == "model.views":
        return place, "is chosen once a network is trained: set model.views itself, auto tries several", value
    if section not in SEARCHED or name not in SEARCHED[section].model_fields:
        known = SEARCHED.get(section)
        allowed = [f"{section}.{field}" for field in known.model_fields] if known else [f"{s}.…" for s in SEARCHED]
        allowed = [each for each in allowed if each not in ("train.epochs", "model.views")]
        return place, f"is no key that can be searched. Allowed: {', '.join(allowed)}", value
    for sample in spaces.samples(value):
        try:
            SEARCHED[section].model_validate({name: sample})
        except ValidationError as error:
            fault = error.errors()[0]
            if isinstance(fault["input"], dict):
                return place, f"takes values or {', '.join(('choice', *spaces.DISTRIBUTIONS))}", value
            return place, fault["msg"].removeprefix("Value error, "), value
    return None


def with_new_names(tree: dict[str, Any]) -> dict[str, Any]:
    """The values of a config that an earlier version wrote, under the names that its keys have now."""
    renamed = {key: value if not isinstance(value, dict) else dict(value) for key, value in tree.items()}
    for old, new in RENAMED.items():
        (section, key), (_, name) = old.split("."), new.split(".")
        if isinstance(renamed.get(section), dict) and key in renamed[section]:
            renamed[section][name] = renamed[section].pop(key)
    if isinstance(renamed.get("tune"), dict):
        renamed["tune"]["space"] = _space_with_new_names(renamed["tune"].get("space"))
    return renamed


def _space_with_new_names(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {RENAMED.get(key, key): _space_with_new_names(value) for key, value in tree.items()}
    return [_space_with_new_names(value) for value in tree] if isinstance(tree, list) else tree


def put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}
        tree = tree[parent]
    tree[last] = value


def _sentence(fault: Any, lines: dict[tuple, int], where: str) -> str:
    location = tuple(str(part) for part in fault["loc"])
    path = ".".join(location)
    line = next((lines[location[:n]] for n in range(len(location), -1, -1) if location[:n] in lines), 0)
    place = f"{where}, line {line}" if line else (where if where == "override" else f"{where}, set")
    received = MASK if names_secret(path) else repr(fault["input"])
    if fault["type"] == "extra_forbidden" and path in RENAMED:
        return f"{place}: {path} is called {RENAMED[path]} now. Received: {received}."
    if fault["type"] == "extra_forbidden":
        allowed = ", ".join(_keys_at(location[:-1]))
        return f"{place}: {path} is not a key here. Allowed: {allowed}. Received: {received}."
    if fault["type"] == "missing":
        return f"{place}: {path} is missing and has no default."
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("string_type", "invalid_key") and isinstance(fault["input"], bool | int | float):
        message += " (put it in quotes)"
    return f"{place}: {path}: {message[:1].lower()}{message[1:]}. Received: {received}."


def _keys_at(location: tuple) -> list[str]:
    """The keys that the section at `location` allows."""
    section: Any = Config
    for part in location:
        field = next((f for n, f in section.model_fields.items() if part in (n, f.alias)), None)
        options = [field.annotation, *get_args(field.annotation)] if field else []
        section = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        if section is None:
            return []
    return [field.alias or name for name, field in section.model_fields.items()]
