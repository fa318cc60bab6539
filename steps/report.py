"""report: the runs of a job run that main did not drive in, its summary.json and its report out."""

from baton.config.schema import Config
from baton.orchestration import job
from baton.orchestration.step import step
from baton.tracking.runs import Run


@step("report", imports=("baton.reporting.html.pages",))
def report(config: Config, run: Run) -> None:
    """Sum up what the steps of a job run have left, whatever happened; fails if one of them did."""
    job.close(config, run)


if __name__ == "__main__":
    report()
