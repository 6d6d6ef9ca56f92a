// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

interface IQuorum {
    function requireQuorum(bytes32 hash, uint256 bitmap, bytes calldata sigs) external view;
    function signerSetId() external view returns (uint64);
    function settledAt() external view returns (uint40);
    function rotatedAt() external view returns (uint40);
    function RELEASE() external view returns (uint256);
}

/// @title Governance by quorum
/// @notice The timelock's only proposer: what k of the n current signers signed is proposed, by whoever sends it.
/// @dev Never proposes on one key's word while the network lives. Where nothing was settled and no signers were seated
///      for the settlement's RELEASE, nobody may be left to sign: then the founder may propose too, and what it proposes
///      waits as long as everything else. Holds no money, and cannot shorten the delay.
contract Governor is EIP712 {
    bytes32 public constant PROPOSAL_TYPEHASH = keccak256(
        "Proposal(uint64 number,uint64 signerSetId,address[] targets,bytes[] calls,bytes32 reason)"
    );
    bytes32 public constant CANCELLATION_TYPEHASH = keccak256("Cancellation(bytes32 id,uint64 signerSetId)");
    uint256 public constant MAX_CALLS = 32;

    TimelockController public immutable timelock;
    IQuorum public immutable settlement;
    address public immutable founder; // proposes where the network stands still

    uint64 public proposals; // how many there were; the next one's number is one more

    error WrongNumber(uint64 seen, uint64 wanted);
    error BadParameter(bytes32 name);
    error NotAllowed(address caller);
    error TooEarly(uint256 notBefore);

    event Proposed(uint64 indexed number, bytes32 indexed id, bytes32 reason, bool byQuorum);
    event Cancelled(bytes32 indexed id);

    /// @param timelock_ what owns the contracts; it has to make this contract a proposer and canceller
    /// @param settlement_ whose signers decide
    /// @param founder_ who proposes where the network stands still; zero is nobody
    constructor(TimelockController timelock_, address settlement_, address founder_) EIP712("PoT Governor", "1") {
        timelock = timelock_;
        settlement = IQuorum(settlement_);
        founder = founder_;
    }

    /// @notice Proposes calls that a quorum of the current signers signed; they can be executed, all or none, by anybody
    ///         once the timelock's delay is over.
    /// @param number one more than the last proposal's: what was signed is proposed once
    /// @param targets, calls what is called, in this order, and with what data; no value is sent
    /// @param reason SHA-256 of the text that says why
    /// @param bitmap, sigs as in the settlement's `settle`
    /// @return id the timelock's name for it
    function propose(
        uint64 number,
        address[] calldata targets,
        bytes[] calldata calls,
        bytes32 reason,
        uint256 bitmap,
        bytes calldata sigs
    ) external returns (bytes32 id) {
        settlement.requireQuorum(digest(number, targets, calls, reason), bitmap, sigs);
        id = _schedule(number, targets, calls);
        emit Proposed(number, id, reason, true);
    }

    /// @notice The same by the founder alone, where nothing was settled and no signers were seated for a long time.
    function proposeRecovery(uint64 number, address[] calldata targets, bytes[] calldata calls, bytes32 reason)
        external
        returns (bytes32 id)
    {
        if (msg.sender != founder) revert NotAllowed(msg.sender);
        (uint256 settled, uint256 seated) = (settlement.settledAt(), settlement.rotatedAt());
        uint256 notBefore = (settled > seated ? settled : seated) + settlement.RELEASE();
        if (block.timestamp < notBefore) revert TooEarly(notBefore);
        id = _schedule(number, targets, calls);
        emit Proposed(number, id, reason, false);
    }

    /// @notice Drops a proposal that waits, on the word of a quorum of the current signers.
    /// @param id the timelock's name for it
    /// @param bitmap, sigs as in the settlement's `settle`
    function cancel(bytes32 id, uint256 bitmap, bytes calldata sigs) external {
        bytes32 h = keccak256(abi.encode(CANCELLATION_TYPEHASH, id, settlement.signerSetId()));
        settlement.requireQuorum(_hashTypedDataV4(h), bitmap, sigs);
        timelock.cancel(id);
        emit Cancelled(id);
    }

    /// @notice What the current signers sign for a proposal (EIP-712).
    function digest(uint64 number, address[] calldata targets, bytes[] calldata calls, bytes32 reason)
        public
        view
        returns (bytes32)
    {
        bytes32[] memory hashes = new bytes32[](calls.length);
        for (uint256 i; i < calls.length; ++i) hashes[i] = keccak256(calls[i]);
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    PROPOSAL_TYPEHASH,
                    number,
                    settlement.signerSetId(),
                    keccak256(abi.encodePacked(targets)), // elements are padded, which is EIP-712's hash of an array
                    keccak256(abi.encodePacked(hashes)),
                    reason
                )
            )
        );
    }

    function _schedule(uint64 number, address[] calldata targets, bytes[] calldata calls) private returns (bytes32 id) {
        if (number != proposals + 1) revert WrongNumber(number, proposals + 1);
        if (targets.length == 0 || targets.length > MAX_CALLS || calls.length != targets.length) {
            revert BadParameter("calls");
        }
        proposals = number;
        uint256[] memory values = new uint256[](targets.length);
        bytes32 salt = bytes32(uint256(number));
        timelock.scheduleBatch(targets, values, calls, bytes32(0), salt, timelock.getMinDelay());
        return timelock.hashOperationBatch(targets, values, calls, bytes32(0), salt);
    }
}
