"""The one training path, on one process or on several by Horovod; checkpoints."""
