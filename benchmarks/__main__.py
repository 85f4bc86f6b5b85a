"""
Everything that this project claims to be fast at, side by side with what else does it, such as neuroconv 0.10.2.

    make bench                        # a movie of 1 GB, three rounds
    make bench QUICK=1                # small inputs, one round, in 3 minutes: for correctness, not for figures
    make bench ONLY="conversion"      # some of the modules of this folder

neuroconv lives in an environment of its own (make reference), never among this project's dependencies. The figures
go to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import time
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks.rows import Row, save, table

# Each has ``run(*, quick: bool) -> list[Row]``.
MODULES = [
    "acquisition",
    "conversion",
    "segmentation",
    "limits",
    "presets",
    "odd_cases",
    "backfill",
    "report",
    "tasks",
    "staging",
    "parallel",
    "changed",
]
# What is not over soon with small inputs either: quick only when asked for by name.
LONG = {"acquisition", "backfill", "parallel", "changed"}


def main() -> None:
    """Run the modules, print their tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small inputs, one round")
    parser.add_argument("modules", nargs="*", metavar="module", help=f"some of: {', '.join(MODULES)}")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"there is no benchmark {min(unknown)!r}; choose from {', '.join(MODULES)}")
    results = Path(__file__).parent / "results"
    rows: list[Row] = []
    failed: list[str] = []
    for name in options.modules or [name for name in MODULES if not (options.quick and name in LONG)]:
        begun = time.monotonic()
        print(name, flush=True)
        try:
            found = import_module(f"benchmarks.{name}").run(quick=options.quick)
        except (Exception, SystemExit):  # noqa: BLE001 -- told below, whatever it is
            # What took a quarter of an hour to measure before must not be lost with it.
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"\n{table(found)}\n\n({name} took {time.monotonic() - begun:.0f} s)\n", flush=True)
        rows += found
        save(rows, results)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
