"""Other judges' clients against the mock endpoint, each run by a Python that has it installed.

    PYTHON scripts/bench/peer_clients.py openjudge|openevals URL ROWS [THREADS]

Prints rows a second: one call a row, in texts of about the size of a battle, as each client's own
documentation uses it; openevals, which asks one after the other, is given its caller's threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PROMPT, A, B = "word " * 100, "left " * 200, "right " * 200


def openjudge(url: str, rows: int, _: int) -> float:
    from openjudge.graders.llm_grader import GraderMode, LLMGrader
    from openjudge.models import OpenAIChatModel
    from openjudge.runner.grading_runner import GraderConfig, GradingRunner

    model = OpenAIChatModel(model="mock", base_url=url, api_key="none")
    template = "Prompt {query} A {a} B {b}. Answer in JSON with score and reason."
    grader = LLMGrader(model=model, name="pair", template=template, mode=GraderMode.POINTWISE)
    runner = GradingRunner(grader_configs={"pair": GraderConfig(grader)})
    data = [{"query": f"{n} {PROMPT}", "a": A, "b": B} for n in range(rows)]
    begun = time.perf_counter()
    found: Any = asyncio.run(runner.arun(data))
    seconds = time.perf_counter() - begun
    results = next(iter(found.values()))
    scored = sum(getattr(one, "score", None) is not None for one in results)
    if scored < rows:
        raise SystemExit(f"openjudge scored {scored} of {rows} rows")
    return rows / seconds


def openevals(url: str, rows: int, threads: int) -> float:
    os.environ["LANGSMITH_TRACING"] = "false"
    from openai import OpenAI
    from openevals.llm import create_llm_as_judge

    judge = create_llm_as_judge(
        prompt="Prompt {inputs} A {outputs} B {reference_outputs}: which is better?",
        judge=OpenAI(base_url=url, api_key="none"),
        model="mock",
        choices=[0.0, 0.5, 1.0],
    )

    def ask(number: int) -> Any:
        return judge(inputs=f"{number} {PROMPT}", outputs=A, reference_outputs=B)

    ask(-1)  # its first call loads what it needs
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        scored = sum(one["score"] is not None for one in pool.map(ask, range(rows)))
    seconds = time.perf_counter() - begun
    if scored < rows:
        raise SystemExit(f"openevals scored {scored} of {rows} rows")
    return rows / seconds


def main() -> None:
    peer, url, rows, *threads = sys.argv[1:]
    run = {"openjudge": openjudge, "openevals": openevals}[peer]
    print(f"{run(url, int(rows), int(threads[0]) if threads else 1):.1f}")


if __name__ == "__main__":
    main()
