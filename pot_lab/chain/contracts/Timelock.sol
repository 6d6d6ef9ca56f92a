// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title The DAO's timelock
/// @notice Owns the other contracts: what it is told to do waits for a delay, in which stakers and clients can leave.
/// @dev OpenZeppelin's, unchanged. It has no admin but itself, and whoever wishes may execute what has waited.
contract Timelock is TimelockController {
    /// @param minDelay seconds that every act waits
    /// @param proposers who may propose and cancel
    /// @param executors who may execute; the zero address is everybody
    /// @param admin who may grant roles until it renounces; the zero address is nobody
    constructor(uint256 minDelay, address[] memory proposers, address[] memory executors, address admin)
        TimelockController(minDelay, proposers, executors, admin)
    {}
}
