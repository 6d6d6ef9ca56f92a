// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @notice Holds reward, fee and client bond of an order until it is sealed (moved to settlement) or refunded.
/// @dev Never holds money that nobody can get out: an order lives at most MAX_LIFE, and after `sealBy` + grace its
///      money goes back to the client without anybody's help. What a sealed order gives back (unused fee, bond, the
///      reward of a void order) comes to the client as a cumulative payout of the settlement.
contract OrderEscrow is Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// One slot. The id commits to everything but the amounts; their split is in the event, which the ledger attests.
    /// A closed order keeps its client with amount 0, so an id is used once for ever.
    struct Order {
        address client;
        uint96 amount;
    }

    IERC20 public immutable token;
    uint64 public constant MAX_LIFE = 366 days;
    uint64 public constant MAX_GRACE = 30 days;

    address public settlement;
    uint96 public minReward;
    uint64 public refundGrace; // time after sealBy in which only sealing is possible
    mapping(bytes32 id => Order) public orders;

    error OrderExists(bytes32 id);
    error UnknownOrder(bytes32 id);
    error BadParameter(bytes32 name);
    error TooEarly(uint256 notBefore);
    error NotSettlement(address caller);

    event OrderPlaced(
        bytes32 indexed id,
        address indexed client,
        uint96 reward,
        uint96 fee,
        uint96 bond,
        uint64 sealBy,
        bytes32 specHash,
        uint64 nonce
    );
    event OrdersSealed(bytes32[] ids, uint256 total);
    event OrderRefunded(bytes32 indexed id, address indexed client, uint256 amount);
    event ParameterSet(bytes32 indexed name, uint256 value);

    constructor(IERC20 token_, address owner_, uint64 grace) Ownable(owner_) {
        if (grace > MAX_GRACE) revert BadParameter("refundGrace");
        token = token_;
        refundGrace = grace;
    }

    function orderId(address client, uint64 nonce, uint64 sealBy, bytes32 specHash) public pure returns (bytes32) {
        return keccak256(abi.encode(client, nonce, sealBy, specHash));
    }

    function placeOrder(uint96 reward, uint96 fee, uint96 bond, uint64 sealBy, bytes32 specHash, uint64 nonce)
        public
        nonReentrant
        returns (bytes32 id)
    {
        if (reward == 0 || reward < minReward) revert BadParameter("reward");
        if (sealBy <= block.timestamp || sealBy > block.timestamp + MAX_LIFE) revert BadParameter("sealBy");
        id = orderId(msg.sender, nonce, sealBy, specHash);
        if (orders[id].client != address(0)) revert OrderExists(id);
        uint96 amount = reward + fee + bond; // checked arithmetic
        orders[id] = Order(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit OrderPlaced(id, msg.sender, reward, fee, bond, sealBy, specHash, nonce);
    }

    function placeOrderWithPermit(
        uint96 reward,
        uint96 fee,
        uint96 bond,
        uint64 sealBy,
        bytes32 specHash,
        uint64 nonce,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (bytes32) {
        // A permit that somebody else sent first must not block the order: ignore its failure, transferFrom decides.
        try IERC20Permit(address(token)).permit(
            msg.sender, address(this), uint256(reward) + fee + bond, deadline, v, r, s
        ) {} catch {}
        return placeOrder(reward, fee, bond, sealBy, specHash, nonce);
    }

    /// Anyone may trigger it; the money only ever goes back to the client.
    function refund(address client, uint64 nonce, uint64 sealBy, bytes32 specHash) external nonReentrant {
        bytes32 id = orderId(client, nonce, sealBy, specHash);
        Order storage o = orders[id];
        uint256 amount = o.amount;
        if (amount == 0) revert UnknownOrder(id);
        if (block.timestamp < uint256(sealBy) + refundGrace) revert TooEarly(uint256(sealBy) + refundGrace);
        o.amount = 0;
        token.safeTransfer(client, amount);
        emit OrderRefunded(id, client, amount);
    }

    function seal(bytes32[] calldata ids) external nonReentrant returns (uint256 total) {
        if (msg.sender != settlement) revert NotSettlement(msg.sender);
        for (uint256 i; i < ids.length; ++i) {
            Order storage o = orders[ids[i]];
            uint96 amount = o.amount;
            if (amount == 0) revert UnknownOrder(ids[i]);
            o.amount = 0;
            total += amount;
        }
        token.safeTransfer(msg.sender, total);
        emit OrdersSealed(ids, total);
    }

    // ---------------------------------------------------------------- DAO
    function setSettlement(address v) external onlyOwner {
        settlement = v;
        emit ParameterSet("settlement", uint160(v));
    }

    function setMinReward(uint96 v) external onlyOwner {
        minReward = v;
        emit ParameterSet("minReward", v);
    }

    function setRefundGrace(uint64 v) external onlyOwner {
        if (v > MAX_GRACE) revert BadParameter("refundGrace");
        refundGrace = v;
        emit ParameterSet("refundGrace", v);
    }
}
