"""What horovodrun starts: `python -m baton.horovod_worker JOB.json`; the file may come later."""

import logging
import os
import sys
from pathlib import Path

from baton import (
    fit,  # noqa: F401 - TensorFlow is up before the job comes
    processes,
)
from baton.errors import BatonError
from baton.horovod import awaited, work

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    processes.end_with(os.environ.get(processes.DRIVER), processes.die)
    try:
        work(awaited(Path(sys.argv[1])))
    except BatonError as error:
        sys.exit(f"baton: {error}")
