# SPDX-License-Identifier: Apache-2.0
"""What the programs that measure on a GPU keep of a run beside its figures, and where."""
import datetime
import json
import pathlib
import subprocess
import sys

here = pathlib.Path(__file__).resolve().parent


def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class Record:
    """A run of `program`, on the GPU that answers, of what `commit` or this checkout says; ends the program where either is missing."""

    def __init__(self, program, command, commit, results, infix=""):
        gpu, driver = (said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").split("\n")[0].split(", ") + [""])[:2]
        if not gpu:
            sys.exit(f"{program}: expected a GPU that nvidia-smi knows, found none")
        commit = commit or said("git", "rev-parse", "--short", "HEAD")
        if not commit:
            sys.exit(f"{program}: expected a checkout, or --commit")
        now = datetime.datetime.now(datetime.timezone.utc)
        self.path = results / f"{now:%Y-%m-%d}-{infix}{gpu.removeprefix('NVIDIA ').lower().replace(' ', '-')}-{commit}.json"
        self.head = {"date": now.isoformat(timespec="seconds"), "commit": commit, "gpu": gpu, "driver": driver,
                     "toolkit": said("nvcc", "--version").split("\n")[-1], "command": " ".join([f"bench/{program}", *command])}

    def write(self, figures):
        self.path.write_text(json.dumps(self.head | figures, indent=1) + "\n")
