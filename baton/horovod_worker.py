"""What horovodrun starts: `python -m baton.horovod_worker JOB.json`."""

import json
import logging
import os
import sys
from pathlib import Path

from baton import processes
from baton.errors import BatonError
from baton.horovod import Job, work

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    processes.end_with(os.environ.get(processes.DRIVER), processes.die)
    try:
        work(Job(**json.loads(Path(sys.argv[1]).read_text())))
    except BatonError as error:
        sys.exit(f"baton: {error}")
