"""Run slither over the contracts: `python tests/chain/slither/run.py`, in an environment with `slither-analyzer`.

It needs `npm ci` in contracts/compiler. Findings in OpenZeppelin's files are left out. chain.md has each finding and
what became of it.
"""

# mypy: ignore-errors
from __future__ import annotations

import inspect
import os
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "pot_lab" / "chain" / "contracts"


def main() -> None:
    os.environ["PATH"] = f"{HERE}{os.pathsep}{os.environ['PATH']}"
    from crytic_compile import CryticCompile
    from crytic_compile.platform.solc_standard_json import SolcStandardJson
    from slither import Slither
    from slither.detectors import all_detectors
    from slither.detectors.abstract_detector import AbstractDetector

    names = sorted(path.name for path in SOURCES.glob("*.sol") if path.name != "PaperMultisig.sol")
    wanted = ["abi", "evm.bytecode", "evm.deployedBytecode", "devdoc", "userdoc", "metadata"]
    compiled = SolcStandardJson(
        {
            "language": "Solidity",
            "sources": {name: {"content": (SOURCES / name).read_text()} for name in names},
            "settings": {
                "evmVersion": "cancun",
                "viaIR": True,
                "optimizer": {"enabled": True, "runs": 1},
                "outputSelection": {"*": {"*": wanted, "": ["ast"]}},
            },
        }
    )
    os.chdir(SOURCES)
    analysis = Slither(CryticCompile(compiled))
    for kind in vars(all_detectors).values():
        if inspect.isclass(kind) and issubclass(kind, AbstractDetector) and kind is not AbstractDetector:
            analysis.register_detector(kind)
    found = []
    for findings in analysis.run_detectors():
        for finding in findings:
            files = {each["source_mapping"]["filename_relative"] for each in finding["elements"]}
            if not all("openzeppelin" in file for file in files):
                found.append((finding["impact"], finding["check"], " ".join(finding["description"].split())[:200]))
    for line in sorted(found):
        print(*line, sep=" | ")
    print(len(found), "findings")


if __name__ == "__main__":
    main()
