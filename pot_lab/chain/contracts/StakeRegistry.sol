// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

interface ISignerSet {
    function isSigner(address staker) external view returns (bool);
    function isBound(address staker) external view returns (bool);
}

/// @title Stakes
/// @notice Stakes per (node, role); a node may hold several roles (paper 2.5).
/// @dev Never releases stake before the unbonding period is over: it stays slashable until then. The period can only be
///      made longer, since the ledger lets an order last as long as it does less the time to settle: so stake that an
///      order in time may still slash is never released. Never keeps stake for ever: neither the settlement contract
///      nor a signer set that is never rotated can hold up a request for more than the settlement's RELEASE.
///      Owner: the DAO's timelock.
contract StakeRegistry is Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    enum Role {
        Provider,
        Validator,
        Verifier,
        Aggregator
    }

    /// @dev One storage slot.
    struct Stake {
        uint96 bonded;
        uint96 unbonding;
        uint64 unlockAt;
    }

    /// @dev One entry of `stakeFor`.
    struct Grant {
        address node;
        Role role;
        uint96 amount;
    }

    IERC20 public immutable token;
    uint64 public constant MAX_UNBONDING = 90 days;
    /// @dev Gas for asking the settlement contract about a signer: four times what it takes.
    uint256 private constant ASK_GAS = 30_000;

    uint64 public unbondingPeriod;
    address public settlement; // the only address that may slash
    address public treasury; // receives slashed tokens that have no beneficiary
    mapping(Role => uint96) public minStake;
    mapping(address => mapping(Role => Stake)) public stakes;
    mapping(address => address) public signingKey; // cold staker -> hot aggregator key

    error BelowMinimum(Role role, uint256 bonded, uint256 minimum);
    error NotBonded(uint256 asked, uint256 bonded);
    error NothingToDo();
    error StillLocked(uint64 unlockAt);
    error NotSettlement(address caller);
    error ActiveSigner(address node);
    error BadParameter(bytes32 name);

    event Staked(address indexed node, Role indexed role, uint256 amount, uint256 bonded);
    event UnstakeRequested(address indexed node, Role indexed role, uint256 amount, uint256 bonded, uint64 unlockAt);
    event Withdrawn(address indexed node, Role indexed role, uint256 amount);
    event Slashed(address indexed node, Role indexed role, uint256 amount, uint256 bonded, address to);
    event SigningKeySet(address indexed node, address key);
    event ParameterSet(bytes32 indexed name, uint256 value);
    event MinStakeSet(Role indexed role, uint256 amount);

    /// @param token_ the token that is staked
    /// @param owner_ the DAO's timelock, or who hands over to it
    /// @param treasury_ gets slashed tokens that have no beneficiary
    /// @param unbonding seconds from a request to the withdrawal
    /// @param minStakes least stake by role, in grains
    constructor(IERC20 token_, address owner_, address treasury_, uint64 unbonding, uint96[4] memory minStakes)
        Ownable(owner_)
    {
        if (unbonding == 0 || unbonding > MAX_UNBONDING) revert BadParameter("unbondingPeriod");
        if (treasury_ == address(0)) revert BadParameter("treasury");
        token = token_;
        treasury = treasury_;
        unbondingPeriod = unbonding;
        for (uint8 r; r < 4; ++r) _setMinStake(Role(r), minStakes[r]);
    }

    // ---------------------------------------------------------------- nodes
    /// @notice Bonds grains for a role, on top of what is bonded; needs an allowance.
    function stake(Role role, uint96 amount) external nonReentrant {
        _stake(msg.sender, role, amount);
    }

    /// @notice `stake` with an EIP-2612 permit, so that no allowance is left open.
    function stakeWithPermit(Role role, uint96 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        // A permit that somebody else sent first must not block the deposit: ignore its failure, transferFrom decides.
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _stake(msg.sender, role, amount);
    }

    /// @notice Bonds for others: the caller pays, the nodes own the stake. A pool or a genesis bonds many accounts in one transaction.
    function stakeFor(Grant[] calldata grants) external nonReentrant {
        for (uint256 i; i < grants.length; ++i) _stake(grants[i].node, grants[i].role, grants[i].amount);
    }

    /// @notice Begins to unbond grains; they can be slashed until they are withdrawn.
    /// @dev Refused to a signer of the settlement contract, unless that contract has not settled for its RELEASE.
    ///      Leaves nothing or the least stake.
    function requestUnstake(Role role, uint96 amount) external {
        Stake storage s = stakes[msg.sender][role];
        if (amount == 0) revert NothingToDo();
        if (amount > s.bonded) revert NotBonded(amount, s.bonded);
        if (role == Role.Aggregator && _isBound(msg.sender)) revert ActiveSigner(msg.sender);
        uint96 left = s.bonded - amount;
        if (left != 0 && left < minStake[role]) revert BelowMinimum(role, left, minStake[role]);
        uint64 unlock = uint64(block.timestamp) + unbondingPeriod;
        s.bonded = left;
        s.unbonding += amount;
        s.unlockAt = unlock; // conservative: the clock restarts for the whole unbonding part
        emit UnstakeRequested(msg.sender, role, amount, left, unlock);
    }

    /// @notice Pays out what has finished unbonding; nothing stops it, neither a pause nor the aggregators.
    function withdraw(Role role) external nonReentrant {
        Stake storage s = stakes[msg.sender][role];
        uint96 amount = s.unbonding;
        if (amount == 0) revert NothingToDo();
        if (block.timestamp < s.unlockAt) revert StillLocked(s.unlockAt);
        s.unbonding = 0;
        s.unlockAt = 0;
        token.safeTransfer(msg.sender, amount);
        emit Withdrawn(msg.sender, role, amount);
    }

    /// @notice Names the key that signs settlements for the caller, from the next signer set that it is in.
    /// @dev The key must sign its owner (proof of possession), so nobody can occupy the key of another.
    function setSigningKey(address key, bytes calldata possession) external {
        bytes32 h = keccak256(abi.encode("PoT signing key", block.chainid, address(this), msg.sender));
        if (ECDSA.recover(MessageHashUtils.toEthSignedMessageHash(h), possession) != key) revert BadParameter("possession");
        if (ISignerSet(settlement).isSigner(msg.sender)) revert ActiveSigner(msg.sender);
        signingKey[msg.sender] = key;
        emit SigningKeySet(msg.sender, key);
    }

    // ---------------------------------------------------------------- settlement
    /// @notice Takes stake, bonded first and then unbonding; only the settlement contract may.
    /// @param to who gets it; zero is the treasury
    /// @return taken what could be taken: too little stake never reverts, and unbonding stake is slashable too.
    function slash(address node, Role role, uint256 amount, address to) external nonReentrant returns (uint256 taken) {
        if (msg.sender != settlement) revert NotSettlement(msg.sender);
        Stake storage s = stakes[node][role];
        (uint256 b, uint256 u) = (s.bonded, s.unbonding);
        uint256 fromB = amount < b ? amount : b;
        uint256 fromU = amount - fromB < u ? amount - fromB : u;
        s.bonded = uint96(b - fromB);
        s.unbonding = uint96(u - fromU);
        taken = fromB + fromU;
        address dest = to == address(0) ? treasury : to;
        if (taken != 0) token.safeTransfer(dest, taken);
        emit Slashed(node, role, taken, b - fromB, dest);
    }

    // ---------------------------------------------------------------- views
    /// @notice Whether a node has the least stake of a role.
    function isActive(address node, Role role) external view returns (bool) {
        uint96 b = stakes[node][role].bonded;
        return b != 0 && b >= minStake[role];
    }

    // ---------------------------------------------------------------- DAO
    /// @notice Sets the least stake of a role for what is bonded from now on, in grains.
    function setMinStake(Role role, uint96 v) external onlyOwner {
        _setMinStake(role, v);
    }

    /// @notice Makes the unbonding period longer, for requests from now on; in seconds.
    function setUnbondingPeriod(uint64 v) external onlyOwner {
        if (v < unbondingPeriod || v > MAX_UNBONDING) revert BadParameter("unbondingPeriod");
        unbondingPeriod = v;
        emit ParameterSet("unbondingPeriod", v);
    }

    /// @notice Names the only contract that may slash.
    function setSettlement(address v) external onlyOwner {
        settlement = v;
        emit ParameterSet("settlement", uint160(v));
    }

    /// @notice Names who gets slashed tokens that have no beneficiary.
    function setTreasury(address v) external onlyOwner {
        if (v == address(0)) revert BadParameter("treasury");
        treasury = v;
        emit ParameterSet("treasury", uint160(v));
    }

    // ---------------------------------------------------------------- internals
    function _setMinStake(Role role, uint96 v) private {
        minStake[role] = v;
        emit MinStakeSet(role, v);
    }

    /// @dev Whether the settlement contract counts on this signer; a contract that does not answer binds nobody. Too
    ///      little gas to ask is refused, so that no caller can pick that answer.
    function _isBound(address node) private view returns (bool bound) {
        if (gasleft() < 2 * ASK_GAS) revert BadParameter("gas");
        address to = settlement;
        bytes memory data = abi.encodeCall(ISignerSet.isBound, (node));
        assembly ("memory-safe") {
            let answered := staticcall(ASK_GAS, to, add(data, 32), mload(data), 0, 32)
            if and(answered, gt(returndatasize(), 31)) { bound := iszero(iszero(mload(0))) }
        }
    }

    function _stake(address node, Role role, uint96 amount) private {
        if (amount == 0) revert NothingToDo();
        Stake storage s = stakes[node][role];
        uint96 b = s.bonded + amount;
        if (b < minStake[role]) revert BelowMinimum(role, b, minStake[role]);
        s.bonded = b;
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit Staked(node, role, amount, b);
    }
}
