"""What a dispute costs an aggregator: one example, from request to judgement, through a real helper process.

Small and large test sets take turns within each repeat, so that a busy machine disturbs their ratio little. `proven`
requests carry the example with its proof, `row` requests name its place in a data file. What is measured asks helpers
that are ready; the first request to a fresh one, which waits for its start, is measured apart.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from report import main

from pot_lab.judging import Finding, JudgeHelper, start_helper
from tests.judging.cases import Case, make_case


def measure(options: argparse.Namespace) -> dict[str, Any]:
    sizes = (options.small, options.large)
    with tempfile.TemporaryDirectory() as folder:
        cases = [make_case(Path(folder, str(size)), examples=size) for size in sizes]
        requests = [_requests(case, options.repeats) for case in cases]
        first_s = [_first(case) for case in cases]
        helper = JudgeHelper(start_helper)
        try:
            times = [{"proven": [], "row": []} for _ in sizes]
            for repeat in range(-1, options.repeats):  # the first turn warms up
                for case_times, some in zip(times, requests, strict=True):
                    for form, found in case_times.items():
                        seconds = _timed(helper, some[form][max(repeat, 0)])
                        found += [seconds] if repeat >= 0 else []
        finally:
            helper.close()
    medians = [{form: statistics.median(found) for form, found in each.items()} for each in times]
    return {
        "examples": sizes,
        "proven_ms": [round(1000 * each["proven"], 3) for each in medians],
        "row_ms": [round(1000 * each["row"], 3) for each in medians],
        "proven_ratio": round(_ratio(times, "proven"), 3),
        "row_ratio": round(_ratio(times, "row"), 3),
        "first_request_of_a_fresh_helper_s": [round(each, 2) for each in first_s],
    }


def _ratio(times: list[dict[str, list[float]]], form: str) -> float:
    return statistics.median(large / small for small, large in zip(times[0][form], times[1][form], strict=True))


def _requests(case: Case, repeats: int) -> dict[str, list[Any]]:
    indexes = [case.examples * i // repeats for i in range(repeats)]
    liar = case.lying({i: int(case.honest.values[i]) + 1 for i in indexes})
    proven = case.dispute(liar, indexes[0])
    return {
        "proven": [proven] * repeats,  # a proof of an example takes a pass over all of them, so one is made
        "row": [case.dispute(liar, i, row=True) for i in indexes],
    }


def _first(case: Case) -> float:
    helper = JudgeHelper(start_helper)
    seconds = _timed(helper, case.dispute(case.lying({0: 1}), 0))
    helper.close()
    return seconds


def _timed(helper: JudgeHelper, request: Any) -> float:
    begun = time.perf_counter()
    found = helper.judge(request)
    seconds = time.perf_counter() - begun
    if found.finding is not Finding.WRONG:
        raise RuntimeError(f"the lying validator was not convicted: {found}")
    return seconds


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small", type=int, default=100, metavar="N", help="examples of the small test set")
    parser.add_argument("--large", type=int, default=100_000, metavar="N", help="examples of the large test set")
    parser.add_argument("--repeats", type=int, default=50, metavar="N", help="disputes of each kind")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
