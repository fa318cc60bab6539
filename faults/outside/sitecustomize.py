"""Python imports this at the start of every process that has this folder on PYTHONPATH: Horovod's workers."""

import os
import sys

if (
    "BATON_FAULTS" in os.environ
    and "baton.training.horovod_worker" in sys.orig_argv
    and os.environ.get("HOROVOD_RANK") == "0"
):
    from faults import points

    points.watch("distributed_train's worker", os.environ["BATON_FAULTS"])
