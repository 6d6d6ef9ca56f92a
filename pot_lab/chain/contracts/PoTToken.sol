// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The token
/// @notice The utility token POT: fixed supply, permit, no owner, no hooks.
/// @dev One unit is a grain; 10^9 grains are one POT, so ledger and chain count in the same integers. The supply stays
///      below 2^64 grains: every amount that can exist fits the integers of the ledger's canonical bytes.
contract PoTToken is ERC20, ERC20Permit {
    error SupplyTooLarge(uint256 supply, uint256 limit);

    /// @param to who gets the whole supply
    /// @param supply in grains
    constructor(address to, uint256 supply) ERC20("Proof of Training", "POT") ERC20Permit("Proof of Training") {
        if (supply > type(uint64).max) revert SupplyTooLarge(supply, type(uint64).max);
        _mint(to, supply);
    }

    /// @notice Decimal places of one POT.
    function decimals() public pure override returns (uint8) {
        return 9;
    }
}
