"""What the benchmarks share: a command, a question, a wait, a table, and what a process uses."""

import http.client
import json
import statistics
import subprocess
import sys
import time

# With `--json` the tables are kept and printed at the end.
KEPT = None


def sh(*argv, check=True):
    done = subprocess.run(argv, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"error: {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def get(port, path="/", timeout=2):
    """Status and body, or (0, "") when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def until(what, met, seconds=60, gap=0.001):
    give_up = time.monotonic() + seconds
    while not met():
        if time.monotonic() > give_up:
            raise SystemExit(f"error: waited {seconds} s in vain for {what}")
        time.sleep(gap)


def median(figures):
    return statistics.median(figures)


def table(title, rows, head, **figures):
    """Prints a table; with --json its cells, and `figures` as numbers, are part of the document."""
    if KEPT is not None:
        KEPT.append({"title": title, "rows": [dict(zip(head, row)) for row in rows], **figures})
        return
    print(f"\n{title}")
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |")
    sys.stdout.flush()


def ms(seconds):
    return f"{seconds * 1000:.0f} ms"


def say(text):
    """A line that is no figure: beside the document, not in it."""
    print(text, file=sys.stdout if KEPT is None else sys.stderr, flush=True)


def keep_tables():
    global KEPT
    KEPT = []


def print_kept():
    if KEPT is not None:
        print(json.dumps(KEPT, indent=2))


class Load:
    """The load tool, until it is told to end."""

    def __init__(self, options, mode, at_least, port, connections=16, path="/"):
        self.process = subprocess.Popen([options.load, f"127.0.0.1:{port}", str(connections), mode, str(at_least), path],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.process.communicate()
        return json.loads(out)


def ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
