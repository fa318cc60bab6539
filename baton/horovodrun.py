"""horovodrun, but for one check: `python -m baton.horovodrun ARGUMENTS`.

Before it starts anything, horovodrun imports TensorFlow in a process of its own, only to ask whether
Horovod was built with Gloo. The wheel of this project always is.
"""

import sys

from horovod.runner import launch

if __name__ == "__main__":
    launch.gloo_built = lambda verbose=False: True
    sys.exit(launch.run_commandline())
