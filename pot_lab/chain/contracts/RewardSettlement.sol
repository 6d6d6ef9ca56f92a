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

/// @title Settlement of rewards
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

    /// @dev One slot: what an account was paid in all, and where payouts go (zero: to the account itself). An amount of
    ///      more than 96 bits is more than the supply of the token, which refuses to transfer it.
    struct Earner {
        uint96 claimed;
        address to;
    }

    bytes32 public constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint64 epoch,uint64 round,uint64 signerSetId,bytes32 root,uint128 cumulativeTotal,bytes32 ordersHash,bytes32 ledgerHash)"
    );
    bytes32 public constant ROTATION_TYPEHASH =
        keccak256("Rotation(uint64 newSetId,uint64 threshold,address[] stakers)");
    uint8 internal constant AGGREGATOR = 3;
    uint256 public constant MAX_PAUSE = 7 days;
    uint256 public constant MAX_SIGNERS = 100;
    /// @notice A signer's stake is bound for so long after the last settlement or rotation, and no longer.
    uint256 public constant RELEASE = 30 days;
    /// @dev Gas of one transfer in a batch: three times what the token takes for a first payment.
    uint256 private constant PAY_GAS = 150_000;

    IERC20 public immutable token;
    IEscrow public immutable escrow;
    IRegistry public immutable registry;

    // one slot
    uint40 public epoch;
    uint40 public settledAt;
    uint40 public pausedUntil;
    uint32 public minCycle;
    uint32 public claimDelay;
    uint40 public rotatedAt;
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
    mapping(address => mapping(uint8 => uint256)) public slashedCumulative;
    mapping(address => Earner) private earners;
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
    event PayoutSkipped(address indexed account, address to, uint256 amount);
    event PayoutAddressSet(address indexed account, address to);
    event SlashApplied(address indexed node, uint8 indexed role, uint256 amount, uint256 cumulative);
    event SignersRotated(uint64 indexed setId, uint8 threshold, address[] keys);
    event Vetoed(uint64 indexed epoch, bytes32 root);
    event Paused(address indexed by, uint64 until);
    event Unpaused(address indexed by);
    event Funded(address indexed from, uint256 amount);
    event Equivocation(address indexed staker, uint64 indexed epoch, uint256 slashed);
    event ParameterSet(bytes32 indexed name, uint256 value);

    /// @param token_ the token that is paid
    /// @param escrow_ what holds the orders' money until it is sealed
    /// @param registry_ what holds stakes
    /// @param owner_ the DAO's timelock, or who hands over to it
    /// @param guardian_ who may pause, and veto inside the claim delay
    /// @param minCycle_ least seconds between two settlements
    /// @param claimDelay_ seconds from a settlement to its first claim
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
    /// @notice Settles an epoch: makes its root of cumulative payouts and slashes the current one, and seals its orders.
    /// @dev All or nothing. Anyone may send it; the signatures decide.
    /// @param s what was signed
    /// @param orderIds the orders to seal, as bound by `s.ordersHash`
    /// @param bitmap which signers' signatures follow
    /// @param sigs 64-byte EIP-2098 signatures in ascending order of the set bits
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

    /// @notice Emission subsidy or any donation that the aggregators may then allocate; needs an allowance.
    function fund(uint128 amount) external nonReentrant {
        token.safeTransferFrom(msg.sender, address(this), amount);
        funded += amount;
        emit Funded(msg.sender, amount);
    }

    // ---------------------------------------------------------------- claim
    /// @notice The root that claims and slashes are proved against: the newest one whose claim delay is over.
    function activeRoot() public view returns (bytes32) {
        return block.timestamp >= uint256(settledAt) + claimDelay ? root : prevRoot;
    }

    /// @notice Pays an account, at its payout address, what it has earned and not received. Anyone may send it.
    /// @param cumulative grains earned since the first epoch, as in the leaf
    function claim(address account, uint256 cumulative, bytes32[] calldata proof) external nonReentrant whenNotPaused {
        if (!MerkleProof.verifyCalldata(proof, activeRoot(), _leaf(0, account, cumulative))) revert BadProof();
        Earner storage e = earners[account];
        (uint256 done, address to) = (e.claimed, e.to);
        if (cumulative <= done) revert NothingToClaim(account, cumulative);
        e.claimed = uint96(cumulative);
        token.safeTransfer(to == address(0) ? account : to, cumulative - done);
        emit Claimed(account, cumulative - done, cumulative);
    }

    /// @notice Grains that an account was paid in all.
    function claimed(address account) external view returns (uint256) {
        return earners[account].claimed;
    }

    /// @notice Where an account's payouts go.
    function payee(address account) external view returns (address to) {
        to = earners[account].to;
        if (to == address(0)) to = account;
    }

    /// @notice Has the caller's payouts go to another address from now on; zero is the caller's own.
    function setPayoutAddress(address to) external {
        // What these contracts receive in this way nobody could get out.
        if (to == address(this) || to == address(token) || to == address(escrow) || to == address(registry)) {
            revert BadParameter("to");
        }
        earners[msg.sender].to = to;
        emit PayoutAddressSet(msg.sender, to);
    }

    /// @notice Relayed batch, one proof each. Entries that are claimed already are skipped (no griefing by
    ///         front-running), and so is one that cannot be paid: it holds up no other, and keeps its claim.
    function claimMany(address[] calldata accounts, uint256[] calldata cumulative, bytes32[][] calldata proofs)
        external
        nonReentrant
        whenNotPaused
    {
        bytes32 r = activeRoot();
        for (uint256 i; i < accounts.length; ++i) {
            if (!MerkleProof.verifyCalldata(proofs[i], r, _leaf(0, accounts[i], cumulative[i]))) revert BadProof();
            _payOrSkip(accounts[i], cumulative[i]);
        }
    }

    /// @notice `claimMany` with one OpenZeppelin multiproof.
    function claimMulti(
        address[] calldata accounts,
        uint256[] calldata cumulative,
        bytes32[] calldata proof,
        bool[] calldata flags
    ) external nonReentrant whenNotPaused {
        uint256 n = accounts.length;
        if (n == 0 || cumulative.length != n) revert BadProof();
        bytes32[] memory leaves = new bytes32[](n);
        for (uint256 i; i < n; ++i) leaves[i] = _leaf(0, _account(accounts, i), _amount(cumulative, i));
        if (!MerkleProof.multiProofVerifyCalldata(proof, flags, activeRoot(), leaves)) revert BadProof();
        for (uint256 i; i < n; ++i) _payOrSkip(_account(accounts, i), _amount(cumulative, i));
    }

    /// @dev An entry whose index is below the array's length; without the check of that.
    function _account(address[] calldata accounts, uint256 i) private pure returns (address account) {
        assembly ("memory-safe") {
            account := shr(96, shl(96, calldataload(add(accounts.offset, shl(5, i)))))
        }
    }

    /// @dev As `_account`.
    function _amount(uint256[] calldata cumulative, uint256 i) private pure returns (uint256 amount) {
        assembly ("memory-safe") {
            amount := calldataload(add(cumulative.offset, shl(5, i)))
        }
    }

    function _payOrSkip(address account, uint256 cumulative) private {
        Earner storage e = earners[account];
        (uint256 done, address to) = (e.claimed, e.to);
        if (cumulative <= done) return;
        if (to == address(0)) to = account;
        uint256 due;
        unchecked {
            due = cumulative - done; // positive: see above
        }
        e.claimed = uint96(cumulative);
        try token.transfer{gas: PAY_GAS}(to, due) returns (bool paid) {
            if (paid) {
                emit Claimed(account, due, cumulative);
                return;
            }
        } catch {}
        e.claimed = uint96(done);
        emit PayoutSkipped(account, to, due);
    }

    // ---------------------------------------------------------------- slash
    /// @notice Anyone may apply a signed slash (leaf kind 1 + role); `to` is bound by the leaf, zero is the treasury.
    /// @dev What comes to this contract may be paid out again by a later settlement: to those whom the offence cost.
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
        if (to == address(this) && taken != 0) {
            funded += uint128(taken);
            emit Funded(node, taken);
        }
        emit SlashApplied(node, role, taken, cumulative);
    }

    /// @notice Two different settlements of one (epoch, round) signed by one key: its whole aggregator stake is forfeit. The
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
    /// @notice Hands over to another signer set; by k-of-n of the current one, or by the DAO (recovery, genesis).
    /// @param stakers accounts with an aggregator's stake, so ordered that their signing keys ascend
    /// @param newThreshold signatures that count from now on: more than half
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
        rotatedAt = uint40(block.timestamp);
        emit SignersRotated(id, newThreshold, keys);
    }

    /// @notice Whether the stake of a staker is bound because it signs: not when nothing has been settled or rotated for
    ///         RELEASE, since then nobody may be left who could let it go.
    function isBound(address staker) external view returns (bool) {
        uint256 last = settledAt > rotatedAt ? settledAt : rotatedAt;
        return isSigner[staker] && block.timestamp < last + RELEASE;
    }

    /// @notice The keys of the current signer set, ascending.
    function signers() external view returns (address[] memory out) {
        bytes memory set = _signers();
        out = new address[](set.length / 20);
        for (uint256 i; i < out.length; ++i) out[i] = _at(set, i);
    }

    // ---------------------------------------------------------------- safety
    /// @notice Stops settlements, claims and slashes until `until`; refunds and withdrawals never stop. A pause may be
    ///         made shorter, never longer, and cannot be chained by anybody: after one, MAX_PAUSE must pass.
    function pause(uint40 until) external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);
        if (until <= block.timestamp || until > block.timestamp + MAX_PAUSE) revert BadParameter("until");
        uint256 last = pausedUntil;
        if (last != 0 && block.timestamp < last + MAX_PAUSE && until > last) revert TooEarly(last + MAX_PAUSE);
        pausedUntil = until;
        emit Paused(msg.sender, until);
    }

    /// @notice Ends a pause now.
    function unpause() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);
        if (block.timestamp >= pausedUntil) revert TooLate(pausedUntil);
        pausedUntil = uint40(block.timestamp); // not zero: the next pause has to wait
        emit Unpaused(msg.sender);
    }

    /// @notice Drops a root that is still inside claimDelay.
    function veto() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotAllowed(msg.sender);
        if (block.timestamp >= uint256(settledAt) + claimDelay) revert TooLate(uint256(settledAt) + claimDelay);
        emit Vetoed(epoch, root);
        root = prevRoot;
    }

    /// @notice Sets the least seconds between two settlements, and from one to its first claim.
    function setCycle(uint32 minCycle_, uint32 claimDelay_) external onlyOwner {
        _setCycle(minCycle_, claimDelay_);
        emit ParameterSet("minCycle", minCycle_);
        emit ParameterSet("claimDelay", claimDelay_);
    }

    /// @notice Names who may pause, and veto.
    function setGuardian(address v) external onlyOwner {
        guardian = v;
        emit ParameterSet("guardian", uint160(v));
    }

    // ---------------------------------------------------------------- internals
    /// @notice What signers sign for a settlement (EIP-712).
    function digest(Settlement calldata s) external view returns (bytes32) {
        return _digest(s);
    }

    /// @notice Refuses what k of the n current signers did not sign: for contracts that act on their word.
    /// @param hash a digest of the caller's own EIP-712 domain, so that no signature serves two purposes
    /// @param bitmap, sigs as in `settle`
    function requireQuorum(bytes32 hash, uint256 bitmap, bytes calldata sigs) external view {
        _checkSignatures(hash, bitmap, sigs);
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

    /// @dev A claim delay longer than the cycle would let a root be replaced before it was ever claimable.
    function _setCycle(uint32 minCycle_, uint32 claimDelay_) private {
        if (claimDelay_ > minCycle_) revert BadParameter("claimDelay");
        if (minCycle_ > 30 days) revert BadParameter("minCycle");
        (minCycle, claimDelay) = (minCycle_, claimDelay_);
    }

    /// @dev keccak256(bytes.concat(keccak256(abi.encode(kind, account, cumulative)))), without taking memory for it.
    function _leaf(uint256 kind, address account, uint256 cumulative) private pure returns (bytes32 leaf) {
        assembly ("memory-safe") {
            let fields := mload(0x40)
            mstore(fields, kind)
            mstore(add(fields, 32), shr(96, shl(96, account)))
            mstore(add(fields, 64), cumulative)
            mstore(0, keccak256(fields, 96))
            leaf := keccak256(0, 32)
        }
    }

    /// @dev `sigs` = 64-byte EIP-2098 signatures in ascending order of the set bits of `bitmap`. By hand and not by
    ///      OpenZeppelin's ECDSA, since thirty signers sign each cycle. Its rule that s is low is the form's own here (s
    ///      has 255 bits), and a signer counts once in whatever form.
    function _checkSignatures(bytes32 hash, uint256 bitmap, bytes calldata sigs) private view {
        bytes memory set = _signers();
        uint256 n = set.length / 20;
        uint256 j;
        if (n == 0 || bitmap >> n != 0) revert BadSignatures(0, threshold);
        bool good = true;
        assembly ("memory-safe") {
            let input := mload(0x40) // hash, v, r, s
            mstore(input, hash)
            let key := add(set, 32)
            for { let rest := bitmap } rest {
                rest := shr(1, rest)
                key := add(key, 20)
            } {
                if and(rest, 1) {
                    // Past the end calldata reads as zero, which no key gives; the length is checked below.
                    let at := add(sigs.offset, j)
                    let vs := calldataload(add(at, 32))
                    mstore(add(input, 32), add(27, shr(255, vs)))
                    mstore(add(input, 64), calldataload(at))
                    mstore(add(input, 96), and(vs, 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff))
                    mstore(0, 0) // ecrecover gives nothing for what no key signed, nor without the gas to run
                    pop(staticcall(gas(), 1, input, 128, 0, 32))
                    let signer := mload(0)
                    if or(iszero(signer), xor(signer, shr(96, mload(key)))) {
                        good := 0
                        break
                    }
                    j := add(j, 64)
                }
            }
        }
        if (!good || j != sigs.length || j / 64 < threshold) revert BadSignatures(j / 64, threshold);
    }

    function _at(bytes memory set, uint256 i) private pure returns (address a) {
        assembly ("memory-safe") {
            a := shr(96, mload(add(add(set, 32), mul(i, 20))))
        }
    }

    /// @dev The set lives in contract code: one cold account read instead of n cold slots.
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
