"""The contracts on a chain are told from any others, whatever their own views say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pot_lab.chain.account import ChainAccount
from pot_lab.chain.contract import artifact_troubles
from pot_lab.chain.errors import ChainRefused
from pot_lab.chain.inspection import ContractInspector, immutable_words, mask
from pot_lab.chain.rpc import JsonRpc
from tests.chain.world import World, identity


@pytest.fixture
def inspector(chain_url: str, world: World) -> Iterator[ContractInspector]:
    with ContractInspector(chain_url, world.contracts) as made:
        yield made


def test_deployed_contracts_are_this_packages(inspector: ContractInspector) -> None:
    assert inspector.verify() == []


def test_the_state_has_owners_signers_and_the_three_pots(inspector: ContractInspector, world: World) -> None:
    state = inspector.state()
    assert set(state.owners) == set(state.pending_owners) == {"registry", "escrow", "settlement"}
    assert not any(state.owner_is_contract.values()) and not state.is_paused
    assert (state.epoch, state.signer_set_id) == (0, 1)
    assert state.staked_grains > 0 and state.escrowed_grains == state.held_grains == 0
    assert inspector.signer_troubles(list(state.signers)) == []
    troubles = inspector.signer_troubles([*state.signers, b"\x05" * 20])
    assert any("are not the aggregators" in each for each in troubles)


def test_contracts_that_are_mixed_up_or_missing_are_named(chain_url: str, world: World) -> None:
    right = world.contracts
    for wrong, said in (
        (replace(right, escrow=right.registry), "OrderEscrow at"),
        (replace(right, token=b"\x05" * 20), "no code of PoTToken"),
        (replace(right, chain_id=5), "the contracts on chain 5"),
    ):
        with ContractInspector(chain_url, wrong) as inspector:
            assert said in inspector.verify()[0]


def test_a_contract_made_for_another_token_is_named(chain_url: str, world: World) -> None:
    """Its code is ours but for one immutable; its other views agree with ours."""
    rpc = JsonRpc(chain_url)
    account = ChainAccount(rpc, world.contracts.chain_id, identity("founder"))
    owner = identity("founder").address
    other = account.create("OrderEscrow", (b"\x05" * 20, owner, 60, 60, 1)).created
    rpc.close()
    assert other is not None
    with ContractInspector(chain_url, replace(world.contracts, escrow=other)) as inspector:
        said = inspector.verify()[0]
    assert "made for another network" in said and "05" * 20 in said


def test_a_contract_that_was_never_wired_is_named(chain_url: str, world: World) -> None:
    rpc = JsonRpc(chain_url)
    account = ChainAccount(rpc, world.contracts.chain_id, identity("founder"))
    other = account.create("OrderEscrow", (world.contracts.token, identity("founder").address, 60, 60, 1)).created
    rpc.close()
    assert other is not None
    with ContractInspector(chain_url, replace(world.contracts, escrow=other)) as inspector:
        troubles = inspector.verify()
    # The settlement's own immutable names the first escrow.
    assert any("made for another network" in each for each in troubles)


def test_only_whole_pushed_words_may_differ() -> None:
    push = bytes([0x7F])
    first, second = b"\x5b" + push + b"\1" * 32 + b"\0", b"\x5b" + push + b"\2" * 32 + b"\0"
    assert immutable_words(first, second) == [2]
    assert mask(first, [2]) == mask(second, [2]) == b"\x5b" + push + bytes(32) + b"\0"
    for other in (b"\x5c" + second[1:], second[:-1], b"\x5b\x60\1\0", second[:-1] + b"\1"):
        with pytest.raises(ChainRefused):
            immutable_words(first, other)


def test_no_byte_of_the_code_escapes(chain_url: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that shows each contract with one byte changed: every change is found, wherever it is."""
    with ContractInspector(chain_url, world.contracts) as inspector:
        code = inspector._code(world.contracts.settlement)
        asked = inspector._code
        for at in range(0, len(code), 997):
            changed = code[:at] + bytes([code[at] ^ 1]) + code[at + 1 :]
            monkeypatch.setattr(
                inspector, "_code", lambda where, c=changed: c if where == world.contracts.settlement else asked(where)
            )
            assert len(inspector._code_troubles("settlement")) == 1, at


def test_the_build_belongs_to_its_sources() -> None:
    assert artifact_troubles() == []
