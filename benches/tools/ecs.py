#!/usr/bin/env python3
"""The figures on ECS: beside a bare loop on the same emulator, or against a local stand-in of the API, in the same run."""

import argparse
import os
import signal
import sys

import ecs_edit
import ecs_sweep
import ecs_switch
from common import keep_tables, print_kept, say


def main():
    sections = {"ecs-edit": ecs_edit.bench, "ecs-sweep": ecs_sweep.bench, "ecs-switch": ecs_switch.bench}
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=os.path.abspath)
    parser.add_argument("--load", required=True, type=os.path.abspath)
    parser.add_argument("--emulator-python", required=True, type=os.path.abspath, help="a Python that has ministack")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("sections", nargs="*", help=", ".join(sections))
    options = parser.parse_args()
    for section in options.sections:
        if section not in sections:
            parser.error(f"no section {section}; there are {', '.join(sections)}")
    # As Ctrl-C does: nothing is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.json:
        keep_tables()
    say(f"{os.cpu_count()} cores")
    for section in options.sections or list(sections):
        sections[section](options)
    print_kept()


if __name__ == "__main__":
    main()
