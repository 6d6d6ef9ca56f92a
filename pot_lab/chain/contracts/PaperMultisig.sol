// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @notice The paper's propose / confirm / execute scheme, one reward account at a time (paper 4.2, Table 6), written
///         in the way of the classic multi-signature wallet: confirmations are counted by a loop over the owners.
/// @dev For the gas table only. Nothing else may use it.
contract PaperMultisig {
    struct Reward {
        address account;
        bool executed;
        uint256 amount;
    }

    IERC20 public immutable token;
    uint256 public immutable required;
    address[] public owners;
    mapping(address => bool) public isOwner;
    Reward[] public rewards;
    mapping(uint256 => mapping(address => bool)) public confirmations;

    event RewardProposed(uint256 indexed id, address indexed account, uint256 amount);
    event RewardConfirmed(uint256 indexed id, address indexed owner);
    event RewardExecuted(uint256 indexed id);

    modifier onlyOwner() {
        require(isOwner[msg.sender], "owner");
        _;
    }

    constructor(IERC20 token_, address[] memory owners_, uint256 required_) {
        token = token_;
        required = required_;
        owners = owners_;
        for (uint256 i; i < owners_.length; ++i) isOwner[owners_[i]] = true;
    }

    function proposeReward(address account, uint256 amount) external onlyOwner returns (uint256 id) {
        id = rewards.length;
        rewards.push(Reward(account, false, amount));
        emit RewardProposed(id, account, amount);
    }

    function confirmReward(uint256 id) external onlyOwner {
        require(id < rewards.length && !rewards[id].executed && !confirmations[id][msg.sender], "bad");
        confirmations[id][msg.sender] = true;
        emit RewardConfirmed(id, msg.sender);
    }

    function executeReward(uint256 id) external onlyOwner {
        Reward storage r = rewards[id];
        require(!r.executed, "done");
        uint256 c;
        for (uint256 i; i < owners.length; ++i) {
            if (confirmations[id][owners[i]]) ++c;
            if (c == required) break;
        }
        require(c >= required, "confirmations");
        r.executed = true;
        require(token.transfer(r.account, r.amount));
        emit RewardExecuted(id);
    }
}
