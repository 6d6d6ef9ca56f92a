"""What is mutated, which tests must notice, and from which seed the sample is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Target:
    """A group of files whose tests are run together.

    Attributes:
        files: patterns of the files to mutate.
        tests: patterns of test files, run in this order after those named like the mutated file.
        sample: how many mutants `make mutation` draws; the rest waits for another seed.
        seed: the seed of that draw.
        preload: modules that are imported once, not once for each mutant.
        functions: pattern of the names of the functions to mutate; the rest of a file is left alone.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]
    sample: int
    seed: int = 1
    preload: tuple[str, ...] = ()
    functions: str = "*"


TARGETS: dict[str, Target] = {
    "protocol": Target(
        files=("pot_lab/protocol/**/*.py",),
        tests=(  # all but test_bounds.py, which takes long and asks only that nothing is raised
            "tests/protocol/test_[!b]*.py",
            "tests/protocol/test_book.py",
            "tests/protocol/orders/test_*.py",
            "tests/attacks/test_*.py",
        ),
        sample=200,
    ),
    "crypto": Target(
        files=tuple(f"pot_lab/crypto/{name}.py" for name in ("merkle", "shamir", "canonical", "keystore")),
        tests=("tests/crypto/test_*.py",),
        sample=100,
        preload=("eth_account",),
    ),
    "posting": Target(
        files=("pot_lab/notebook/posting.py",),
        tests=("tests/notebook/test_posting.py",),
        sample=80,
        preload=("torch", "numpy"),
    ),
    "batch_axis": Target(
        files=("pot_lab/scoring/graph/batch_axis.py",),
        tests=("tests/scoring/graph/test_batch_axis.py",),
        sample=80,
        preload=("torch", "numpy"),
    ),
    "batch_rules": Target(
        files=("pot_lab/scoring/operators/*.py",),
        functions="_*_axis",
        tests=("tests/scoring/graph/test_batch_axis.py",),
        sample=100,
        preload=("torch", "numpy"),
    ),
    "arguments": Target(
        files=("pot_lab/scoring/graph/arguments.py",),
        tests=("tests/scoring/graph/test_arguments.py",),
        sample=80,
        preload=("torch", "numpy"),
    ),
    "store": Target(
        files=("pot_lab/files.py", "pot_lab/store/addresses.py", "pot_lab/store/http_transport.py"),
        tests=(
            "tests/test_files.py",
            "tests/store/test_addresses.py",
            "tests/store/test_http_transport.py",
            "tests/store/test_blobs.py",
        ),
        sample=80,
        preload=("urllib3", "fsspec"),
    ),
    "jobs": Target(
        files=tuple(
            f"pot_lab/jobs/{name}.py"
            for name in (
                "earnings",
                "loop",
                "memory",
                "order_feed",
                "provider",
                "recipe_jobs",
                "scorer",
                "validator",
                "verifier",
            )
        ),
        tests=tuple(f"tests/jobs/test_{name}.py" for name in ("memory", "order_feed", "loop", "provider", "validator")),
        sample=80,
        preload=("zmq", "fsspec"),
    ),
    "workspace": Target(
        files=("pot_lab/jobs/workspace.py", "pot_lab/jobs/progress.py"),
        tests=("tests/jobs/test_training_task.py", "tests/jobs/test_progress.py", "tests/jobs/test_workspace.py"),
        sample=60,
        preload=("torch", "numpy"),
    ),
    "cli": Target(
        files=tuple(f"pot_lab/cli/{name}.py" for name in ("common", "completion", "main", "mine", "orders")),
        tests=tuple(
            f"tests/cli/test_{name}.py"
            for name in ("orders", "mine", "aggregator", "completion", "main", "real_network")
        ),
        sample=60,
        preload=("click", "msgspec", "cryptography", "coincurve", "torch"),
    ),
    "testnet": Target(
        files=("pot_lab/testnet/founding.py", "pot_lab/testnet/processes.py", "pot_lab/discovery.py"),
        tests=("tests/testnet/test_founding.py", "tests/testnet/test_processes.py", "tests/test_discovery.py"),
        sample=60,
        preload=("zmq", "psutil"),
    ),
    "consensus": Target(
        files=(
            "pot_lab/agreement/*.py",
            *(
                f"pot_lab/consensus/{name}.py"
                for name in ("admission", "batching", "checkpoint", "driver", "early_messages")
            ),
        ),
        tests=(
            "tests/agreement/test_*.py",
            *(
                f"tests/consensus/test_{name}.py"
                for name in ("admission", "batching", "checkpoint", "driver", "early_messages")
            ),
        ),
        sample=150,
    ),
    "network": Target(
        files=(
            "pot_lab/network/aggregator/clients.py",
            "pot_lab/network/aggregator/fair_queue.py",
            "pot_lab/network/aggregator/history.py",
            "pot_lab/network/aggregator/metrics.py",
            "pot_lab/network/aggregator/own_seat.py",
            "pot_lab/network/aggregator/peer_budget.py",
            "pot_lab/network/aggregator/read_time.py",
            "pot_lab/network/aggregator/streams.py",
            "pot_lab/network/aggregator/waiting.py",
            "pot_lab/network/client/calls.py",
            "pot_lab/network/client/ledger.py",
            "pot_lab/network/client/order_watch.py",
            "pot_lab/network/client/queries.py",
            "pot_lab/network/client/round_trip.py",
            "pot_lab/network/client/streams.py",
            "pot_lab/network/client/submissions.py",
            "pot_lab/network/config.py",
            "pot_lab/network/duties/*.py",
            "pot_lab/network/genesis.py",
            "pot_lab/network/network_file.py",
            "pot_lab/network/wire.py",
            "pot_lab/network/wire_codes.py",
        ),
        tests=(
            "tests/network/aggregator/test_clients.py",
            "tests/network/aggregator/test_fair_queue.py",
            "tests/network/aggregator/test_history.py",
            "tests/network/aggregator/test_metrics.py",
            "tests/network/aggregator/test_own_seat.py",
            "tests/network/aggregator/test_peer_budget.py",
            "tests/network/aggregator/test_streams.py",
            "tests/network/aggregator/test_waiting.py",
            "tests/network/client/test_ledger.py",
            "tests/network/client/test_order_watch.py",
            "tests/network/client/test_queries.py",
            "tests/network/client/test_round_trip.py",
            "tests/network/client/test_streams.py",
            "tests/network/client/test_submissions.py",
            "tests/network/duties/test_*.py",
            "tests/network/test_config.py",
            "tests/network/test_genesis.py",
            "tests/network/test_wire.py",
        ),
        sample=100,
        preload=("zmq",),
    ),
}


def files_of(target: Target, root: Path) -> list[Path]:
    """The files to mutate, relative to `root`."""
    found = {path for pattern in target.files for path in root.glob(pattern) if path.name != "__init__.py"}
    return sorted(path.relative_to(root) for path in found)


def tests_of(target: Target, file: Path, root: Path) -> list[str]:
    """The test files for one mutated file, those named like it first, relative to `root`."""
    found = list(
        dict.fromkeys(str(path.relative_to(root)) for pattern in target.tests for path in sorted(root.glob(pattern)))
    )
    return sorted(found, key=lambda path: not Path(path).stem.startswith(f"test_{file.stem}"))
