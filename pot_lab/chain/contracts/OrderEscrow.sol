// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

interface ISettled {
    function settledAt() external view returns (uint40);
}

/// @title Escrow of orders
/// @notice Holds reward, fee and client bond of an order until it is sealed (moved to settlement) or refunded.
/// @dev Never holds money that nobody can get out: an order lives at most MAX_LIFE, and its money goes back to the
///      client without anybody's help once the network has settled an epoch after `sealBy` + grace and left the order
///      out, or `sealBy` + stall grace is over. The first is the rule of a network that works; it keeps the escrow
///      where a network that stood still, or was paused, has not yet settled work that the client has the model of.
///      The second holds whatever the aggregators and the settlement contract do. Once open, a refund stays open.
///      What a sealed order gives back (unused fee, bond, the reward of a void order) comes to the client as a
///      cumulative payout of the settlement.
contract OrderEscrow is Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev One slot. The id commits to everything but the amounts; their split is in the event, which the ledger attests.
    /// A closed order keeps its client with amount 0, so an id is used once for ever.
    struct Order {
        address client;
        uint96 amount;
    }

    IERC20 public immutable token;
    uint64 public constant MAX_LIFE = 366 days;
    uint64 public constant MAX_GRACE = 30 days;
    uint64 public constant MAX_STALL_GRACE = 60 days;
    /// @dev Gas for asking the settlement contract when it last settled: four times what it takes.
    uint256 private constant ASK_GAS = 30_000;

    address public settlement; // the only address that may seal
    uint96 public minReward; // never zero
    uint64 public refundGrace; // time after sealBy in which only sealing is possible
    uint64 public stallGrace; // the same while no epoch is settled; at least refundGrace
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

    /// @param token_ the token that orders are paid in
    /// @param owner_ the DAO's timelock, or who hands over to it
    /// @param grace seconds after `sealBy` in which only sealing is possible
    /// @param stallGrace_ the same while no epoch is settled
    /// @param minReward_ the least reward, in grains
    constructor(IERC20 token_, address owner_, uint64 grace, uint64 stallGrace_, uint96 minReward_) Ownable(owner_) {
        token = token_;
        _setGraces(grace, stallGrace_);
        _setMinReward(minReward_);
    }

    /// @notice The id of an order: it commits to everything but the amounts.
    /// @param client who pays and gets refunds
    /// @param nonce the client's own number
    /// @param sealBy until when it should be sealed, in seconds
    /// @param specHash SHA-256 of the ledger's record of the order
    function orderId(address client, uint64 nonce, uint64 sealBy, bytes32 specHash) public pure returns (bytes32) {
        return keccak256(abi.encode(client, nonce, sealBy, specHash));
    }

    /// @notice Pays an order into the escrow.
    /// @param reward grains for the best model, at least `minReward`
    /// @param fee grains for those who judge
    /// @param bond grains that the client loses for misconduct
    /// @param sealBy until when it should be sealed, in seconds; at most MAX_LIFE ahead
    /// @param specHash SHA-256 of the ledger's record of the order
    /// @param nonce the client's own number
    /// @return id the order's id, used once for ever
    function placeOrder(uint96 reward, uint96 fee, uint96 bond, uint64 sealBy, bytes32 specHash, uint64 nonce)
        public
        nonReentrant
        returns (bytes32 id)
    {
        if (reward < minReward) revert BadParameter("reward");
        if (sealBy <= block.timestamp || sealBy > block.timestamp + MAX_LIFE) revert BadParameter("sealBy");
        id = orderId(msg.sender, nonce, sealBy, specHash);
        if (orders[id].client != address(0)) revert OrderExists(id);
        uint96 amount = reward + fee + bond; // checked arithmetic
        orders[id] = Order(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit OrderPlaced(id, msg.sender, reward, fee, bond, sealBy, specHash, nonce);
    }

    /// @notice `placeOrder` with an EIP-2612 permit for reward + fee + bond, so that no allowance is left open.
    /// @dev Arguments as of `placeOrder`, then the permit's deadline and signature.
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

    /// @notice Gives the escrow of an order that was never sealed back to its client. Anyone may send it.
    /// @param client who placed it
    /// @param nonce, sealBy, specHash as in `placeOrder`; the four name the order
    function refund(address client, uint64 nonce, uint64 sealBy, bytes32 specHash) external nonReentrant {
        bytes32 id = orderId(client, nonce, sealBy, specHash);
        Order storage o = orders[id];
        uint256 amount = o.amount;
        if (amount == 0) revert UnknownOrder(id);
        uint256 notBefore = refundableFrom(sealBy);
        if (block.timestamp < notBefore) revert TooEarly(notBefore);
        o.amount = 0;
        token.safeTransfer(client, amount);
        emit OrderRefunded(id, client, amount);
    }

    /// @notice From when on an order may be refunded, as things stand now: a settlement may make it earlier.
    /// @param sealBy the order's last date, in seconds
    function refundableFrom(uint64 sealBy) public view returns (uint256) {
        uint256 usual = uint256(sealBy) + refundGrace;
        return _lastSettlement() >= usual ? usual : uint256(sealBy) + stallGrace;
    }

    /// @notice Moves the escrow of orders to the settlement contract; only that contract may.
    /// @param ids orders that are open, each once
    /// @return total grains moved
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
    /// @notice Names the only contract that may seal.
    function setSettlement(address v) external onlyOwner {
        settlement = v;
        emit ParameterSet("settlement", uint160(v));
    }

    /// @notice Sets the least reward of new orders, in grains; never zero.
    function setMinReward(uint96 v) external onlyOwner {
        _setMinReward(v);
    }

    /// @notice Sets the seconds after `sealBy` in which only sealing is possible, and the same while nothing is settled.
    /// @dev It holds for open orders too, so both have limits that no owner can pass.
    function setGraces(uint64 grace, uint64 stallGrace_) external onlyOwner {
        _setGraces(grace, stallGrace_);
    }

    // ---------------------------------------------------------------- internals
    function _setMinReward(uint96 v) private {
        if (v == 0) revert BadParameter("minReward");
        minReward = v;
        emit ParameterSet("minReward", v);
    }

    function _setGraces(uint64 grace, uint64 stallGrace_) private {
        if (grace > MAX_GRACE) revert BadParameter("refundGrace");
        if (stallGrace_ < grace || stallGrace_ > MAX_STALL_GRACE) revert BadParameter("stallGrace");
        (refundGrace, stallGrace) = (grace, stallGrace_);
        emit ParameterSet("refundGrace", grace);
        emit ParameterSet("stallGrace", stallGrace_);
    }

    /// @dev When the last epoch was settled; 0 if the settlement contract does not say: it must not be able to hold up
    ///      a refund. Too little gas to ask is refused, so that no caller can pick that answer.
    function _lastSettlement() private view returns (uint256 settled) {
        if (gasleft() < 2 * ASK_GAS) revert BadParameter("gas");
        (address to, bytes4 selector) = (settlement, ISettled.settledAt.selector);
        assembly ("memory-safe") {
            mstore(0, selector)
            let answered := staticcall(ASK_GAS, to, 0, 4, 0, 32)
            if and(answered, gt(returndatasize(), 31)) { settled := mload(0) }
        }
    }
}
