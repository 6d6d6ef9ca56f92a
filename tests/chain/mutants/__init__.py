"""Bugs planted in the contracts: what the tests of this folder are worth.

Run from the repository's root, with the compiler installed (`npm ci` in contracts/compiler):

    python -m tests.chain.mutants            # all
    python -m tests.chain.mutants --only RewardSettlement --json

Each mutant is compiled and put in the place of the committed build in a test process of its own. It is caught if a test
fails; the exit code is 1 if one is not caught. Not part of the suite: a mutant takes the better part of a minute.
"""
