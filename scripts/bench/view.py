"""How `arena-judge view` does on many battles: start, memory, lists, searches, keys in Chromium.

    python -m scripts.bench.view [--battles 57000] [--judges 3] [--keys 50]

Makes battles of made-up words (about 4 kB each), predictions at random and two ballots a battle;
starts the command in a process of its own and asks it what the page asks. Where playwright and a
Chromium are installed, it presses j in the page as well. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from judge.ballot_files import write_ballots
from judge.ballots import ballot_table
from judge.predictions import write_predictions
from scripts.bench.report import setting, table

LISTS = {
    "list, file order": "show=all",
    "list, most surprising": "show=surprising",
    "list, judges disagree": "show=disagree",
    "search, one rare word": "show=all&search=notthereatall",
    "search, two syllables": "show=all&search=ba+ke",
    "search, every battle": "show=all&search=a",
}


def write_battles(file: Path, battles: int, generator: np.random.Generator) -> None:
    """Battles of words that are drawn as those of a language are: few often, most seldom."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(
        ["".join(generator.choice(letters, size)) for size in generator.integers(2, 11, 20_000)]
    )

    def text(least: int, most: int) -> str:
        drawn = generator.zipf(1.3, int(generator.integers(least, most))) % len(words)
        return json.dumps([" ".join(words[drawn])])

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        labels = ("winner_model_a", "winner_model_b", "winner_tie")
        writer.writerow(["id", "prompt", "response_a", "response_b", *labels])
        for number in range(battles):
            label = np.eye(3, dtype=int)[generator.integers(3)]
            writer.writerow([number, text(5, 80), text(30, 450), text(30, 450), *label])


def prepare(folder: Path, battles: int, judges: int) -> list[str]:
    """Writes the files and gives the command's arguments."""
    generator = np.random.default_rng(0)
    names = [str(number) for number in range(battles)]
    write_battles(folder / "battles.csv", battles, generator)
    files = [f"judge{number}.csv" for number in range(judges)]
    for file in files:
        write_predictions(folder / file, names, generator.dirichlet([2, 2, 2], battles))
    votes = np.eye(4)[generator.integers(4, size=(2 * battles, 5))]
    orders = ["AB", "BA"] * battles
    ballots = ballot_table(np.repeat(names, 2).tolist(), "prompted", votes, order=orders)
    write_ballots(folder / "ballots.parquet", ballots)
    return [*files, "battles.csv", "--ballots", "ballots.parquet"]


def timed(address: str, path: str, body: bytes | None = None) -> float:
    """Seconds until an answer is there, in the median of three."""
    base, _, token = address.partition("/#token=")
    headers = {"X-Arena-Judge-Token": token, "Content-Type": "application/json"}
    seconds = []
    for stamp in range(3):
        url = f"{base}{path}{'&' if '?' in path else '?'}stamp={stamp}"
        started = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            answer.read()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def pressed(address: str, keys: int) -> dict[str, float]:
    """Seconds in Chromium: to the first battle, and to the next after a key."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("main h2")
        first = time.perf_counter() - started
        waits = []
        for place in range(keys):
            started = time.perf_counter()
            page.keyboard.press("j")
            page.wait_for_function(
                "start => document.querySelector('.place').textContent.startsWith(start)",
                arg=f"{place + 2} of",
            )
            waits.append(time.perf_counter() - started)
        browser.close()
    return {
        "Chromium, first battle": first,
        "Chromium, j (median)": float(np.median(waits)),
        "Chromium, j (longest)": max(waits),
    }


def measure(folder: Path, arguments: list[str], keys: int) -> list[tuple[str, str]]:
    """What was measured, in words."""
    command = [sys.executable, "-m", "judge", "view", *arguments, "--no-browser"]
    command += ["--labels", "mine.csv"]
    started = time.perf_counter()
    process: Any = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        rows = [("ready after", time.perf_counter() - started)]
        rows += [(name, timed(address, f"/api/list?{query}")) for name, query in LISTS.items()]
        rows.append(("one battle", timed(address, "/api/battles/77")))
        rows.append(("a label saved", timed(address, "/api/battles/77/label", b'{"label": "a"}')))
        if keys:
            rows += pressed(address, keys).items()
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    said = [(name, f"{seconds:.3f} s") for name, seconds in rows]
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    return [*said, ("most memory", f"{int(peak[1]) // 1024} MiB" if peak else "unknown")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--battles", type=int, default=57_000)
    parser.add_argument("--judges", type=int, default=3)
    parser.add_argument("--keys", type=int, default=50, help="0 leaves Chromium out")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        arguments = prepare(Path(name), options.battles, options.judges)
        size = (Path(name) / "battles.csv").stat().st_size / 1e6
        rows = measure(Path(name), arguments, options.keys)
    print(f"{options.battles:,} battles, {size:,.0f} MB, {options.judges} judges\n")
    print(table(("what", "measured"), rows))
    print(f"\n{setting('scripts.bench.view')}")


if __name__ == "__main__":
    main()
