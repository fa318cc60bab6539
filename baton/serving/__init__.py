"""The model of raw columns: exported, checked, served, and scoring new data.

Models that were logged before 0.1.0 say `from baton.serving import DATA, RawColumnModel`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """What those models import, loaded when it is asked for."""
    if name == "DATA":
        from baton.serving.layout import DATA

        return DATA
    if name == "RawColumnModel":
        from baton.serving.raw_columns import RawColumnModel

        return RawColumnModel
    raise AttributeError(name)
