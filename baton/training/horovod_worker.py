"""What horovodrun starts: `python -m baton.training.horovod_worker JOB.json`; the file may come later."""

import importlib
import logging
import os
import sys
from pathlib import Path

from baton.errors import BatonError
from baton.runtime import processes
from baton.training.horovod import awaited, keep_to_own_cores, work

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    keep_to_own_cores()  # before there are threads
    processes.end_with(os.environ.get(processes.DRIVER), processes.die)
    for module in ("baton.training.fit", "horovod.tensorflow", "petastorm"):  # before the job comes
        importlib.import_module(module)
    try:
        work(awaited(Path(sys.argv[1])))
    except BatonError as error:
        sys.exit(f"baton: {error}")
