// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

interface IEscrow {
    function seal(bytes32[] calldata ids) external returns (uint256);
}

interface IRegistry {
    function slash(address node, uint8 role, uint256 amount, address to) external returns (uint256);
    function isActive(address node, uint8 role) external view returns (bool);
    function signingKey(address node) external view returns (address);
}

/// @notice One k-of-n signed transaction per update cycle; cumulative Merkle claims (paper 4.2, made affordable).
/// @dev Never pays twice (values are cumulative), never accepts more than it was funded with, nor an old signer set, an
///      old epoch, or a signature made for another chain or contract. Owner: the DAO's timelock.
contract RewardSettlement is Ownable2Step, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Settlement {
        uint64 epoch; // must be the last + 1
        uint64 round; // attempt: an honest signer signs at most one settlement per (epoch, round)
        uint64 signerSetId; // must be the current set
        bytes32 root; // cumulative rewards and slashes
        uint128 cumulativeTotal; // sum of all reward leaves, ever
        bytes32 ordersHash; // keccak256(abi.encodePacked(orderIds))
        bytes32 ledgerHash; // state digest of the ledger (event only)
    }

    bytes32 public constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint64 epoch,uint64 round,uint64 signerSetId,bytes32 root,uint128 cumulativeTotal,bytes32 ordersHash,bytes32 ledgerHash)"
    );
    bytes32 public constant ROTATION_TYPEHASH =
        keccak256("Rotation(uint64 newSetId,uint64 threshold,address[] stakers)");
    uint8 internal constant AGGREGATOR = 3;
    uint256 public constant MAX_PAUSE = 7 days;
    uint256 public constant MAX_SIGNERS = 100;

    IERC20 public immutable token;
    IEscrow public immutable escrow;
    IRegistry public immutable registry;

    // one slot
    uint40 public epoch;
    uint40 public settledAt;
    uint40 public pausedUntil;
    uint32 public minCycle;
    uint32 public claimDelay;
    // one slot
    uint128 public total;
    uint128 public funded;
    // one slot
    address public signerPointer;
    uint64 public signerSetId;
    uint8 public threshold;
    uint8 public signerCount;

    bytes32 public root; // newest
    bytes32 public prevRoot; // claimable while `root` is inside claimDelay
    address public guardian;
    mapping(address => uint256) public claimed; // cumulative
    mapping(address => mapping(uint8 => uint256)) public slashedCumulative;
    mapping(address => bool) public isSigner; // by staker
    mapping(address => address) public keyOwner; // hot key -> staker
    mapping(bytes32 => bool) public equivocated;

    error WrongEpoch(uint64 seen, uint64 wanted);
    error WrongSigners(uint64 seen, uint64 wanted);
    error TooEarly(uint256 notBefore);
    error TooLate(uint256 until);
    error BadSignatures(uint256 counted, uint256 threshold);
    error Insolvent(uint256 cumulativeTotal, uint256 funded);
    error BadProof();
    error NothingToClaim(address account, uint256 cumulative);
    error IsPaused(uint256 until);
    error NotAllowed(address caller);
    error BadParameter(bytes32 name);
    error OrdersMismatch();
    error NotEquivocation();

    event Settled(
        uint64 indexed epoch,
        uint64 round,
        uint64 signerSetId,
        bytes32 root,
        uint128 cumulativeTotal,
        bytes32 ledgerHash,
        uint256 signerBitmap
    );
    event Claimed(address indexed account, uint256 amount, uint256 cumulative);
    event SlashApplied(address indexed node, uint8 indexed role, uint256 amount, uint256 cumulative);
    event SignersRotated(uint64 indexed setId, uint8 threshold, address[] keys);
    event Vetoed(uint64 indexed epoch, bytes32 root);
    event Paused(uint64 until);
    event Funded(address indexed from, uint256 amount);
    event Equivocation(address indexed staker, uint64 indexed epoch, uint256 slashed);
    event ParameterSet(bytes32 indexed name, uint256 value);

    constructor(
        IERC20 token_,
        IEscrow escrow_,
        IRegistry registry_,
        address owner_,
        address guardian_,
        uint32 minCycle_,
        uint32 claimDelay_
    ) Ownable(owner_) EIP712("PoT Settlement", "1") {
        token = token_;
        escrow = escrow_;
        registry = registry_;
        guardian = guardian_;
        _setCycle(minCycle_, claimDelay_);
    }

    modifier whenNotPaused() {
        if (block.timestamp < pausedUntil) revert IsPaused(pausedUntil);
        _;
    }

    // ---------------------------------------------------------------- settle
    function settle(Settlement calldata s, bytes32[] calldata orderIds, uint256 bitmap, bytes calldata sigs)
        external
        nonReentrant
        whenNotPaused
    {
        if (s.epoch != uint256(epoch) + 1) revert WrongEpoch(s.epoch, uint64(epoch) + 1);
        if (s.signerSetId != signerSetId) revert WrongSigners(s.signerSetId, signerSetId);
        if (block.timestamp < uint256(settledAt) + minCycle) revert TooEarly(uint256(settledAt) + minCycle);
        if (keccak256(abi.encodePacked(orderIds)) != s.ordersHash) revert OrdersMismatch();
        _checkSignatures(_digest(s), bitmap, sigs);

        // Effects first; the call below goes to our own escrow and token only.
        prevRoot = root;
        root = s.root;
        (epoch, settledAt) = (uint40(s.epoch), uint40(block.timestamp));
        uint128 f = funded;
        if (orderIds.length != 0) f += uint128(escrow.seal(orderIds));
        if (s.cumulativeTotal > f) revert Insolvent(s.cumulativeTotal, f);
        (total, funded) = (s.cumulativeTotal, f);
        emit Settled(s.epoch, s.round, s.signerSetId, s.root, s.cumulativeTotal, s.ledgerHash, bitmap);
    }

    /// Emission subsidy or any donation that the aggregators may then allocate.
    function fund(uint128 amount) external nonReentrant {
        token.safeTransferFrom(msg.sender, address(this), amount);
        funded += amount;
        emit Funded(msg.sender, amount);
    }

    // ---------------------------------------------------------------- claim
    function activeRoot() public view returns (bytes32) {
        return block.timestamp >= uint256(settledAt) + claimDelay ? root : prevRoot;
    }

    function claim(address account, uint256 cumulative, bytes32[] calldata proof) external nonReentrant whenNotPaused {
        if (!MerkleProof.verifyCalldata(proof, activeRoot(), _leaf(0, account, cumulative))) revert BadProof();
        if (_pay(account, cumulative) == 0) revert NothingToClaim(account, cumulative);
    }

    /// Relayed batch, one proof each; entries that are claimed already are skipped (no griefing by front-running).
    function claimMany(address[] calldata accounts, uint256[] calldata cumulative, bytes32[][] calldata proofs)
        external
        nonReentrant
        whenNotPaused
    {
        bytes32 r = activeRoot();
        for (uint256 i; i < accounts.length; ++i) {
            if (!MerkleProof.verifyCalldata(proofs[i], r, _leaf(0, accounts[i], cumulative[i]))) revert BadProof();
            _pay(accounts[i], cumulative[i]);
        }
    }

    /// Relayed batch with one OpenZeppelin multiproof.
    function claimMulti(
        address[] calldata accounts,
        uint256[] calldata cumulative,
        bytes32[] calldata proof,
        bool[] calldata flags
    ) external nonReentrant whenNotPaused {
        bytes32[] memory leaves = new bytes32[](accounts.length);
        for (uint256 i; i < accounts.length; ++i) leaves[i] = _leaf(0, accounts[i], cumulative[i]);
        if (accounts.length == 0 || !MerkleProof.multiProofVerifyCalldata(proof, flags, activeRoot(), leaves)) {
            revert BadProof();
        }
        for (uint256 i; i < accounts.length; ++i) _pay(accounts[i], cumulative[i]);
    }

    function _pay(address account, uint256 cumulative) private returns (uint256 amount) {
        uint256 done = claimed[account];
        if (cumulative <= done) return 0;
        amount = cumulative - done;
        claimed[account] = cumulative;
        token.safeTransfer(account, amount);
        emit Claimed(account, amount, cumulative);
    }

    // ---------------------------------------------------------------- slash
    /// Anyone may apply a signed slash (leaf kind 1 + role); `to` is bound by the leaf, zero is the treasury.
    function applySlash(address node, uint8 role, uint256 cumulative, address to, bytes32[] calldata proof)
        external
        nonReentrant
        whenNotPaused
    {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(uint8(1 + role), node, cumulative, to))));
        if (!MerkleProof.verifyCalldata(proof, activeRoot(), leaf)) revert BadProof();
        uint256 done = slashedCumulative[node][role];
        if (cumulative <= done) revert NothingToClaim(node, cumulative);
        slashedCumulative[node][role] = cumulative;
        uint256 taken = registry.slash(node, role, cumulative - done, to);
        emit SlashApplied(node, role, taken, cumulative);
    }

    /// Two different settlements of one (epoch, round) signed by one key: its whole aggregator stake is forfeit. The
    /// treasury receives it, not the caller: a reward here could be taken by a front-runner or by the offender itself.
    function slashEquivocation(
        Settlement calldata a,
        bytes calldata sigA,
        Settlement calldata b,
        bytes calldata sigB
    ) external nonReentrant {
        (bytes32 da, bytes32 db) = (_digest(a), _digest(b));
        if (a.epoch != b.epoch || a.round != b.round || a.signerSetId != b.signerSetId || da == db) {
            revert NotEquivocation();
        }
        address key = ECDSA.recover(da, bytes32(sigA[0:32]), bytes32(sigA[32:64]));
        if (key != ECDSA.recover(db, bytes32(sigB[0:32]), bytes32(sigB[32:64]))) revert NotEquivocation();
        address staker = keyOwner[key];
        bytes32 id = keccak256(abi.encode(staker, a.epoch, a.signerSetId));
        if (staker == address(0) || equivocated[id]) revert NotEquivocation();
        equivocated[id] = true;
        emit Equivocation(staker, a.epoch, registry.slash(staker, AGGREGATOR, type(uint96).max, address(0)));
    }

    // ---------------------------------------------------------------- signer set
    /// `stakers` are ordered so that their signing keys ascend; by k-of-n of the current set, or by the DAO (recovery,
    /// genesis).
    function rotate(address[] calldata stakers, uint8 newThreshold, uint256 bitmap, bytes calldata sigs)
        external
        nonReentrant
    {
        uint64 id = signerSetId + 1;
        if (msg.sender != owner()) {
            // Array elements are padded when packed, which is EIP-712's hash of an array.
            bytes32 stakersHash = keccak256(abi.encodePacked(stakers));
            bytes32 h = keccak256(abi.encode(ROTATION_TYPEHASH, id, uint64(newThreshold), stakersHash));
            _checkSignatures(_hashTypedDataV4(h), bitmap, sigs);
        }
        uint256 n = stakers.length;
        if (n == 0 || n > MAX_SIGNERS) revert BadParameter("stakers");
        // Strictly more than half, so no two quorums are disjoint.
        if (newThreshold > n || 2 * uint256(newThreshold) <= n) revert BadParameter("threshold");
        bytes memory old = _signers();
        for (uint256 i; i < old.length / 20; ++i) isSigner[keyOwner[_at(old, i)]] = false;
        address[] memory keys = new address[](n);
        bytes memory packed = new bytes(20 * n);
        for (uint256 i; i < n; ++i) {
            address st = stakers[i];
            address key = registry.signingKey(st);
            if (key == address(0)) key = st;
            if (!registry.isActive(st, AGGREGATOR)) revert BadParameter("inactive");
            if (i != 0 && key <= keys[i - 1]) revert BadParameter("order");
            address prev = keyOwner[key];
            if (prev != address(0) && prev != st) revert BadParameter("key"); // a key belongs to one staker for ever
            keys[i] = key;
            isSigner[st] = true;
            keyOwner[key] = st;
            // The 12 bytes after the key are written back as they were.
            assembly ("memory-safe") {
                let p := add(add(packed, 32), mul(i, 20))
                mstore(p, or(shl(96, key), and(mload(p), 0xffffffffffffffffffffffff)))
            }
        }
        (signerPointer, signerSetId, threshold, signerCount) = (_write(packed), id, newThreshold, uint8(n));
        emit SignersRotated(id, newThreshold, keys);
    }

    function signers() external view returns (address[] memory out) {
        bytes memory set = _signers();
        out = new address[](set.length / 20);
        for (uint256 i; i < out.length; ++i) out[i] = _at(set, i);
    }

    // ---------------------------------------------------------------- safety
    /// The guardian may stop settlements, claims and slashes for a bounded time; refunds and withdrawals never stop.
    function pause(uint40 until) external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);
        if (until > block.timestamp + MAX_PAUSE) revert BadParameter("until");
        // The guardian cannot chain pauses: after one, as much time must pass before the next.
        bool again = pausedUntil != 0 && block.timestamp < uint256(pausedUntil) + MAX_PAUSE && until > pausedUntil;
        if (msg.sender == guardian && again) revert NotAllowed(msg.sender);
        pausedUntil = until;
        emit Paused(until);
    }

    /// Drops a root that is still inside claimDelay.
    function veto() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);
        if (block.timestamp >= uint256(settledAt) + claimDelay) revert TooLate(uint256(settledAt) + claimDelay);
        emit Vetoed(epoch, root);
        root = prevRoot;
    }

    function setCycle(uint32 minCycle_, uint32 claimDelay_) external onlyOwner {
        _setCycle(minCycle_, claimDelay_);
        emit ParameterSet("minCycle", minCycle_);
        emit ParameterSet("claimDelay", claimDelay_);
    }

    function setGuardian(address v) external onlyOwner {
        guardian = v;
        emit ParameterSet("guardian", uint160(v));
    }

    // ---------------------------------------------------------------- internals
    function digest(Settlement calldata s) external view returns (bytes32) {
        return _digest(s);
    }

    function _digest(Settlement calldata s) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    SETTLEMENT_TYPEHASH,
                    s.epoch,
                    s.round,
                    s.signerSetId,
                    s.root,
                    s.cumulativeTotal,
                    s.ordersHash,
                    s.ledgerHash
                )
            )
        );
    }

    /// A claim delay longer than the cycle would let a root be replaced before it was ever claimable.
    function _setCycle(uint32 minCycle_, uint32 claimDelay_) private {
        if (claimDelay_ > minCycle_) revert BadParameter("claimDelay");
        if (minCycle_ > 30 days) revert BadParameter("minCycle");
        (minCycle, claimDelay) = (minCycle_, claimDelay_);
    }

    function _leaf(uint8 kind, address account, uint256 cumulative) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(kind, account, cumulative))));
    }

    /// `sigs` = 64-byte EIP-2098 signatures in ascending order of the set bits of `bitmap`.
    function _checkSignatures(bytes32 hash, uint256 bitmap, bytes calldata sigs) private view {
        bytes memory set = _signers();
        uint256 n = set.length / 20;
        uint256 j;
        if (n == 0 || bitmap >> n != 0) revert BadSignatures(0, threshold);
        for (uint256 i; i < n; ++i) {
            if (bitmap >> i & 1 == 0) continue;
            bytes32 r;
            bytes32 vs;
            // Past the end calldata reads as zero, which cannot recover to a member; the length is checked below.
            assembly ("memory-safe") {
                let o := add(sigs.offset, j)
                r := calldataload(o)
                vs := calldataload(add(o, 32))
            }
            (address a, ECDSA.RecoverError err,) = ECDSA.tryRecover(hash, r, vs);
            if (err != ECDSA.RecoverError.NoError || a != _at(set, i)) revert BadSignatures(j / 64, threshold);
            unchecked {
                j += 64;
            }
        }
        if (j != sigs.length || j / 64 < threshold) revert BadSignatures(j / 64, threshold);
    }

    function _at(bytes memory set, uint256 i) private pure returns (address a) {
        assembly ("memory-safe") {
            a := shr(96, mload(add(add(set, 32), mul(i, 20))))
        }
    }

    /// The set lives in contract code: one cold account read instead of n cold slots.
    function _signers() private view returns (bytes memory out) {
        address p = signerPointer;
        if (p == address(0)) return out;
        uint256 size = p.code.length - 1;
        out = new bytes(size);
        assembly ("memory-safe") {
            extcodecopy(p, add(out, 32), 1, size)
        }
    }

    function _write(bytes memory data) private returns (address p) {
        // PUSH2 len DUP1 PUSH1 0x0a RETURNDATASIZE CODECOPY RETURNDATASIZE RETURN | STOP data
        bytes memory init = bytes.concat(hex"61", bytes2(uint16(data.length + 1)), hex"80600a3d393df3", hex"00", data);
        assembly ("memory-safe") {
            p := create(0, add(init, 32), mload(init))
        }
        if (p == address(0)) revert BadParameter("signers");
    }
}
