"""An export into a folder that holds an earlier state of the log: what a hurt exporter does. Run as a program."""

import sys
from pathlib import Path

from audit.errors import HeixiaError
from audit.export import files_of, write_file
from audit.schema import open_engine
from audit.source import DatabaseSource
from enclave_api.home import Home

REFUSED = 4


def export(folder: Path) -> None:
    """Writes the log of the home `folder` into its folder `export`."""
    engine = open_engine(Home(folder).database, create=False)
    for path, data in files_of(DatabaseSource(engine)):
        write_file(folder / "export", path, data)
    engine.dispose()


if __name__ == "__main__":
    try:
        export(Path(sys.argv[1]))
    except HeixiaError as error:
        sys.stdout.write(f"refused {error.code}\n")
        sys.exit(REFUSED)
    sys.stdout.write("end\n")
