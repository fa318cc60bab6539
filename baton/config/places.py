"""A place as Databricks' Spark writes it in, the path under which every process there finds it out."""

import re


def mounted(place: str) -> str:
    """`dbfs:/Volumes/…` → `/Volumes/…`, `dbfs:/…` → `/dbfs/…`; any other place stays as it is."""
    match = re.fullmatch(r"dbfs:/+(.*)", place)
    if match is None:
        return place
    return f"/{match[1]}" if match[1].startswith("Volumes/") else f"/dbfs/{match[1]}"
