"""Every name that two places must spell alike: tags, artifacts, metrics, columns, folders."""

STEPS = ("ingest", "train", "tune", "distributed_train", "register", "batch_infer")

# Tags on runs
TAG_STEP = "baton.step"
TAG_NAME = "baton.name"  # the pipeline's, whatever experiment its runs are in
TAG_CACHE = "baton.cache"  # HIT, or MISS and why
TAG_CACHE_KEY = "baton.cache_key"
TAG_PIPELINE_RUN = "baton.pipeline_run_id"
TAG_PIPELINE = "baton.pipeline"  # on main's run: the key of the job run that it is of
TAG_INPUTS = "baton.inputs"  # the runs that a step has found by that key, comma-separated
TAG_ATTEMPT = "baton.attempt"  # which run of its step it is in that job run: 1, 2, …
TAG_SOURCE_RUN = "baton.source_run_id"
TAG_MODEL_URI = "baton.model_uri"
TAG_DATASET = "baton.dataset"
TAG_FINGERPRINT = "baton.fingerprint"
TAG_MODEL_DIGEST = "baton.model_digest"  # the files of a logged model, code and data, as a hash
TAG_OUTPUT = "baton.output"  # the content of what a run gave, as a hash
TAG_SOURCE_CONTENT = "baton.source_content"  # of the source as a step has read it, as a hash
TAG_MODEL_CONTENT = "baton.model_content"  # all data of a logged model, as a hash
TAG_NETWORK = "baton.network"  # what a model answers by, as a hash: the same of models that carry other data
TAG_REGISTRY = "baton.registry_after"
TAG_RESUMED = "baton.resumed_from"
TAG_HOST = "baton.host"
TAG_PROCESS = "baton.process"  # its identity, which no other process of that host ever has
TAG_RESTARTS = "baton.restarts"
TAG_ERROR = "baton.error"

HIT = "hit"
MISS = "miss"

# Metrics on runs of steps, in seconds
SECONDS = "seconds_function"  # from the first line of a step's function to its last
SECONDS_WAITED = "seconds_waited"  # of these: until processes that the function needs were up

# Tags on model versions
TAG_VERDICT = "baton.verdict"
TAG_REASONS = "baton.reasons"
TAG_CANDIDATE_RUN = "baton.candidate_run_id"
TAG_REGISTER_RUN = "baton.register_run_id"
TAG_COMMIT = "baton.git_commit"
TAG_INTERVAL = "baton.interval"  # candidate minus champion on test rows, with its interval, as JSON
TAG_TEST_ROWS = "baton.test_rows"  # a sketch of the test rows, to know them again
TAG_TEST_LOOKS = "baton.test_looks"  # how many models had been asked about these rows, this one included
TAG_TEST_LEFT = "baton.test_error_left"  # of 1 - register.confidence, for later looks at these rows
TAG_TEST_LOSS = "baton.test_loss"  # rows, mean, variance and skewness of the loss on test rows, as JSON
TAG_PREVIOUS_CHAMPION = "baton.previous_champion"
TAG_CHAMPION_SINCE = "baton.champion_since"
TAG_CHAMPION_BY = "baton.champion_by"
TAG_CHAMPION_WHY = "baton.champion_why"
TAG_JUDGED_FOR = "baton.judged_for"  # the registered model whose champion the verdict was given against
TAG_JUDGED_AGAINST = "baton.judged_against"  # what that champion answers by, as a hash; NOBODY without one
TAG_NOT_SCORED = "baton.not_scored"  # why reconcile did not score with it, though it bears the alias
TAG_MEMBERS = "baton.members"  # of an ensemble, with their weights; on its run, too
TAG_DATA = "baton.data"  # rows, columns of dates with their span, the day of the training
TAG_DRIFT = "baton.drift"  # at the last scoring, with its day
TAG_ROLLED_BACK = "baton.rolled_back"  # why it is champion no more

# Tags on a registered model
TAG_HISTORY_RUN = "baton.champions_run_id"  # the run that keeps who was champion

# Tags on that run: one for each change of the champion, numbered
TAG_HISTORY = "baton.champion."

# Aliases of a registered model
CHAMPION = "champion"
CHALLENGER = "challenger"

NOBODY = "nobody"

REGISTERED = "models:/"  # how a place begins that is a version, or who bears an alias

# Verdicts of the gate; the versions of the first two may score
PROMOTED = "promoted"
REFUSED = "refused"
PASSED = (PROMOTED, CHALLENGER)

# Files of a dataset folder, and artifacts of runs
MANIFEST = "manifest.json"
PREPROCESSOR = "preprocessor.json"
TRAINED_ON = "trained_on.parquet"  # what the train rows were like; in the model, too
PICTURE_FEATURES = "picture_features.npy"  # what a network makes of some pictures; in the model only
PROFILE = "profile.json"
PICTURES = "pictures.json"  # what a dataset's pictures are like, with examples
COLUMNS = "columns.json"  # the table of columns, and what a person must know of them
PROFILE_PAGE = "profile.html"
QUARANTINE_FOLDER = "quarantine"
RAW_FOLDER = "raw"
EVALUATION = "evaluation.json"
ASSESSMENT = "assessment.json"
BEST_PARAMETERS = "best_parameters.json"
TRIALS = "trials.json"
SUMMARY = "summary.json"
CACHE_PARTS = "cache.json"
ENSEMBLE = "ensemble.json"
VERDICT = "verdict.json"
EXPLANATION = "explanation.json"
AUDIT = "audit.json"
COSTS = "costs.json"
AUDIT_FOLDER = "audit"
SUSPECTS = "suspects.parquet"
ROLLBACK = "rollback.json"
RECONCILE = "reconcile.json"
SCORING = "scoring.json"
DRIFT = "drift.json"
REASONS = "quarantine_reasons.json"
REPORT = "report.html"
CARD = "card.html"
CONFIG = "config.yaml"
FIGURES = "figures"

SPLITS = ("train", "validation", "test")

# Columns that batch_infer adds
PREDICTION = "prediction"
PREDICTION_LOW, PREDICTION_HIGH = "prediction_low", "prediction_high"  # with batch_infer.interval only
PROBABILITY = "probability_"
LINEAGE = ("model_name", "model_version", "run_id", "data_fingerprint", "scoring_run_id", "scored_at")
REASON = "reason"
QUARANTINE_OUTPUT = "_quarantine"

# Columns that no source may have: those above, and that of row hashes in a summary's sample
ROW_HASH = "__baton_hash"
RESERVED = (PREDICTION, REASON, *LINEAGE, ROW_HASH)

# The grey, 0 to 255, that lies behind what is transparent in a picture, unless the config says another
IMAGE_BACKGROUND = 255

# Levels of the prediction intervals that a model for regression keeps
INTERVAL_LEVELS = (0.8, 0.9, 0.95)

# The metric by which candidates are compared; the smaller the better
PRIMARY_METRIC = {
    "regression": "rmse",
    "binary": "log_loss",
    "multiclass": "log_loss",
    "image": "log_loss",
}


def is_reserved(column: str, interval: bool) -> bool:
    """Whether a column bears a name that predictions use, in any case; with an `interval` they use two more."""
    reserved = (*RESERVED, PREDICTION_LOW, PREDICTION_HIGH) if interval else RESERVED
    return column.casefold() in reserved or column.casefold().startswith(PROBABILITY)
