"""The bugs: a name that says what is wrong, the contract, the text there, and what stands in its place."""

# ruff: noqa: E501  (a planted text stands in one line as in the contract)
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug. `old` occurs in the contract exactly once; `first` selects (`pytest -k`) the tests that should notice it,
    so that it takes seconds; where they do not, all others are asked.
    """

    name: str
    first: str
    contract: str
    old: str
    new: str

    def plant(self, source: str) -> str:
        """The contract with the bug.

        Raises:
            ValueError: the contract has this text not once.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.contract} has this {source.count(self.old)} times: {self.old!r}")
        return source.replace(self.old, self.new)


S, E, R, G = "RewardSettlement", "OrderEscrow", "StakeRegistry", "Governor"

MUTANTS = (
    Mutant(
        "slashed stake that comes to the contract is not counted",
        "slashed_stake_counts",
        S,
        "            funded += uint128(taken);\n            emit Funded(node, taken);",
        "            emit Funded(node, taken);",
    ),
    Mutant(
        "slashed stake is counted whoever gets it",
        "slashed_stake_counts",
        S,
        "if (to == address(this) && taken != 0) {",
        "if (taken != 0) {",
    ),
    # those of the first prototype
    Mutant(
        "a claim is not remembered",
        "honest_epoch",
        S,
        "        e.claimed = uint96(cumulative);\n        token.safe",
        "        token.safe",
    ),
    Mutant(
        "insolvency is not checked",
        "promises_more",
        S,
        "        if (s.cumulativeTotal > f) revert Insolvent(s.cumulativeTotal, f);\n",
        "",
    ),
    Mutant("the quorum is not checked", "wrong_signatures", S, " || j / 64 < threshold", ""),
    Mutant(
        "a sealed order stays open",
        "sealed_as_signed",
        E,
        "            o.amount = 0;\n            total",
        "            total",
    ),
    Mutant(
        "a slash of unbonding stake is not booked", "slash_reaches", R, "        s.unbonding = uint96(u - fromU);\n", ""
    ),
    Mutant(
        "an old signer set settles",
        "new_signer_set",
        S,
        "        if (s.signerSetId != signerSetId) revert WrongSigners(s.signerSetId, signerSetId);\n",
        "",
    ),
    # settlement
    Mutant("an epoch is settled twice", "replay_old", S, "s.epoch != uint256(epoch) + 1", "s.epoch < epoch"),
    Mutant("no time between settlements", "replay_old", S, "block.timestamp < uint256(settledAt) + minCycle", "false"),
    Mutant(
        "orders are not those that were signed",
        "sealed_as_signed",
        S,
        "keccak256(abi.encodePacked(orderIds)) != s.ordersHash",
        "false",
    ),
    Mutant(
        "a pause does not stop settlements",
        "guardian_can_veto",
        S,
        "        nonReentrant\n        whenNotPaused\n    {\n        if (s.epoch",
        "        nonReentrant\n    {\n        if (s.epoch",
    ),
    Mutant(
        "a payout of a batch is not remembered",
        "a_batch_pays",
        S,
        "        e.claimed = uint96(cumulative);\n        try",
        "        try",
    ),
    Mutant("a payee that cannot be paid loses its claim", "holds_up", S, "        e.claimed = uint96(done);\n", ""),
    Mutant(
        "a payee that cannot be paid holds up a batch",
        "holds_up",
        S,
        "        } catch {}\n",
        '        } catch { revert BadParameter("pay"); }\n',
    ),
    Mutant(
        "a claim ignores the payout address",
        "whoever_claims",
        S,
        "token.safeTransfer(to == address(0) ? account : to,",
        "token.safeTransfer(account,",
    ),
    Mutant(
        "a batch ignores the payout address",
        "a_batch_goes",
        S,
        "        if (to == address(0)) to = account;\n        uint256 due;",
        "        to = account;\n        uint256 due;",
    ),
    Mutant(
        "a payout address may be a contract of ours",
        "nobody_gets_it_out",
        S,
        "if (to == address(this) || to == address(token) || to == address(escrow) || to == address(registry))",
        "if (to == address(this) || to == address(token) || to == address(escrow))",
    ),
    Mutant(
        "a root is claimable at once",
        "guardian_can_veto",
        S,
        "block.timestamp >= uint256(settledAt) + claimDelay ? root : prevRoot",
        "root",
    ),
    Mutant(
        "a slash is not remembered", "slash_reaches", S, "        slashedCumulative[node][role] = cumulative;\n", ""
    ),
    Mutant("a reward leaf proves a slash", "slash", S, "uint8(1 + role)", "uint8(role)"),
    Mutant("two rounds count as double signing", "two_signatures", S, "a.round != b.round || ", ""),
    Mutant("double signing costs twice", "two_signatures", S, "        equivocated[id] = true;\n", ""),
    Mutant("one settlement counts as double signing", "shown_twice", S, " || da == db", ""),
    Mutant(
        "half of the signers are enough",
        "new_signer_set",
        S,
        "2 * uint256(newThreshold) <= n",
        "2 * uint256(newThreshold) < n",
    ),
    Mutant(
        "anybody seats signers",
        "new_signer_set",
        S,
        "if (msg.sender != owner()) {\n            // Array",
        "if (false) {\n            // Array",
    ),
    Mutant(
        "who left still counts as a signer",
        "new_signer_set",
        S,
        "isSigner[keyOwner[_at(old, i)]] = false",
        "isSigner[keyOwner[_at(old, i)]] = true",
    ),
    Mutant(
        "signers without stake are seated",
        "new_signer_set",
        S,
        "if (!registry.isActive(",
        "if (false && !registry.isActive(",
    ),
    Mutant(
        "a signer is bound for ever",
        "still_signs",
        S,
        "isSigner[staker] && block.timestamp < last + RELEASE",
        "isSigner[staker] && last + RELEASE != 0",
    ),
    Mutant(
        "a rotation does not bind", "binds_the_signers", S, "settledAt > rotatedAt ? settledAt : rotatedAt", "settledAt"
    ),
    Mutant("a pause may be of any length", "guardian_can_veto", S, " || until > block.timestamp + MAX_PAUSE", ""),
    Mutant(
        "pauses can be chained",
        "keep_payouts_paused",
        S,
        "block.timestamp < last + MAX_PAUSE && until > last",
        "false && until > last",
    ),
    Mutant(
        "ending a pause forgets it",
        "keep_payouts_paused",
        S,
        "pausedUntil = uint40(block.timestamp);",
        "pausedUntil = 0;",
    ),
    Mutant(
        "anybody ends a pause",
        "only_once",
        S,
        "if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);\n        if (block.timestamp >= pausedUntil)",
        "if (block.timestamp >= pausedUntil)",
    ),
    Mutant(
        "a veto comes at any time",
        "too_late",
        S,
        "        if (block.timestamp >= uint256(settledAt) + claimDelay) revert TooLate(uint256(settledAt) + claimDelay);\n",
        "",
    ),
    Mutant("a veto does nothing", "guardian_can_veto", S, "        root = prevRoot;\n", ""),
    # escrow
    Mutant(
        "a refund leaves the order open",
        "without_anybodys_help",
        E,
        "        o.amount = 0;\n        token.safeTransfer(client",
        "        token.safeTransfer(client",
    ),
    Mutant(
        "a refund pays who sends it",
        "without_anybodys_help",
        E,
        "token.safeTransfer(client, amount)",
        "token.safeTransfer(msg.sender, amount)",
    ),
    Mutant(
        "a stall opens refunds",
        "longer_than_the_grace",
        E,
        "_lastSettlement() >= usual ? usual : uint256(sealBy) + stallGrace",
        "usual",
    ),
    Mutant(
        "a settlement before the grace opens refunds",
        "lets_it_go",
        E,
        "_lastSettlement() >= usual ?",
        "_lastSettlement() >= sealBy ?",
    ),
    Mutant(
        "without a settlement nothing is refunded",
        "every_escrow",
        E,
        "? usual : uint256(sealBy) + stallGrace",
        "? usual : type(uint256).max",
    ),
    Mutant(
        "a settlement contract that fails holds up refunds",
        "every_escrow",
        E,
        "if and(answered, gt(returndatasize(), 31))",
        "if iszero(and(answered, gt(returndatasize(), 31))) { revert(0, 0) }\n            if answered",
    ),
    Mutant(
        "anybody seals",
        "sealed_as_signed",
        E,
        "        if (msg.sender != settlement) revert NotSettlement(msg.sender);\n",
        "",
    ),
    Mutant(
        "an order id is used again",
        "used_once",
        E,
        "        if (orders[id].client != address(0)) revert OrderExists(id);\n",
        "",
    ),
    Mutant(
        "the stall grace has no limit",
        "graces_have",
        E,
        "stallGrace_ < grace || stallGrace_ > MAX_STALL_GRACE",
        "stallGrace_ < grace",
    ),
    Mutant(
        "the least reward may be nothing",
        "graces_have",
        E,
        '        if (v == 0) revert BadParameter("minReward");\n',
        "",
    ),
    Mutant(
        "the least reward is not asked for",
        "least_reward",
        E,
        '        if (reward < minReward) revert BadParameter("reward");\n',
        "",
    ),
    # stakes
    Mutant(
        "anybody slashes",
        "slash_reaches",
        R,
        "        if (msg.sender != settlement) revert NotSettlement(msg.sender);\n",
        "",
    ),
    Mutant(
        "unbonding stake is not locked",
        "still_signs",
        R,
        "        if (block.timestamp < s.unlockAt) revert StillLocked(s.unlockAt);\n",
        "",
    ),
    Mutant("a withdrawal leaves the stake", "slash_reaches", R, "        s.unbonding = 0;\n", ""),
    Mutant(
        "unbonding can be made shorter",
        "made_longer",
        R,
        "v < unbondingPeriod || v > MAX_UNBONDING",
        "v == 0 || v > MAX_UNBONDING",
    ),
    Mutant(
        "a new request does not lock the old part",
        "locks_again",
        R,
        "        s.unlockAt = unlock;",
        "        if (s.unlockAt == 0) s.unlockAt = unlock;",
    ),
    Mutant(
        "a signer takes its stake",
        "still_signs",
        R,
        "        if (role == Role.Aggregator && _isBound(msg.sender)) revert ActiveSigner(msg.sender);\n",
        "",
    ),
    Mutant(
        "a settlement contract that fails binds signers",
        "binds_nobody",
        R,
        "if and(answered, gt(returndatasize(), 31)) { bound := iszero(iszero(mload(0))) }",
        "bound := or(iszero(answered), or(lt(returndatasize(), 32), iszero(iszero(mload(0)))))",
    ),
    Mutant(
        "too little may rest",
        "rest",
        R,
        "        if (left != 0 && left < minStake[role]) revert BelowMinimum(role, left, minStake[role]);\n",
        "",
    ),
    Mutant(
        "a key is named without its possession",
        "does_not_have",
        R,
        '        if (ECDSA.recover(MessageHashUtils.toEthSignedMessageHash(h), possession) != key) revert BadParameter("possession");\n',
        "",
    ),
    # signatures and batches by hand
    Mutant("a signature of another key counts", "wrong_signatures", S, "xor(signer, shr(96, mload(key)))", "0"),
    Mutant("a signature of nobody counts", "of_nobody", S, "or(iszero(signer), xor(", "or(0, xor("),
    Mutant("signatures too many are let through", "wrong_signatures", S, "!good || j != sigs.length", "!good"),
    Mutant("a leaf forgets its kind", "honest_epoch", S, "mstore(fields, kind)", "mstore(fields, 1)"),
    Mutant(
        "a batch with amounts to spare is paid",
        "amounts_to_spare",
        S,
        "n == 0 || cumulative.length != n",
        "n == 0",
    ),
    # governance
    Mutant(
        "anybody proposes",
        "without_a_quorum",
        G,
        "        settlement.requireQuorum(digest(number, targets, calls, reason), bitmap, sigs);\n",
        "",
    ),
    Mutant(
        "anybody cancels",
        "cancels",
        G,
        "        settlement.requireQuorum(_hashTypedDataV4(h), bitmap, sigs);\n",
        "",
    ),
    Mutant("a proposal is made twice", "proposed_once", G, "number != proposals + 1", "number > proposals + 1"),
    Mutant("the founder proposes at any time", "stands_still", G, "block.timestamp < notBefore", "false"),
    Mutant(
        "anybody recovers", "stands_still", G, "        if (msg.sender != founder) revert NotAllowed(msg.sender);\n", ""
    ),
    Mutant(
        "signatures of an earlier signer set propose",
        "earlier_signers",
        G,
        "number,\n                    settlement.signerSetId(),",
        "number,\n                    uint64(1),",
    ),
    Mutant(
        "a seating does not count as life",
        "stands_still",
        G,
        "(settled > seated ? settled : seated)",
        "settled",
    ),
)
