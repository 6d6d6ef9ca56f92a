"""`pot-lab wallet`: make an account, show balances, move money."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pot_lab.cli.common import _lab
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    pass


def _wallet(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import Identity, format_address
    from pot_lab.notebook.quantities import grains, pot
    from pot_lab.protocol.parameters import Role

    if chosen.action == "new":
        from pot_lab.crypto.keystore import save_keystore

        if len(chosen.values) != 1:
            raise PotLabError("a new wallet needs the path of its keystore", wanted="pot-lab wallet new PATH")
        password = os.environ.get("POT_LAB_PASSWORD") or _ask_password()
        made = Identity.generate()
        try:
            save_keystore(Path(chosen.values[0]), made, password)
        except FileExistsError:
            raise PotLabError(
                "a keystore is never overwritten", seen=chosen.values[0], wanted="a path where nothing is"
            ) from None
        print(json.dumps({"address": format_address(made.address)}) if chosen.json else format_address(made.address))
        return
    with _lab(chosen) as lab:
        if chosen.action == "stake":
            names = [role.name.lower() for role in Role]
            if not chosen.values or chosen.values[0] not in names:
                raise PotLabError(
                    "there is no such role to stake for", seen=" ".join(chosen.values), wanted=", ".join(names)
                )
            role = Role[chosen.values[0].upper()]
            minimum = lab.client.network().parameters.min_stake_grains[role]
            lab.wallet.stake(role, grains(chosen.values[1]) if len(chosen.values) > 1 else minimum)
        view = lab.client.account(lab.identity.address)
        if chosen.action == "claim" and view.claimable_cumulative_grains:
            lab.wallet.claim(lab.identity.address, view.claimable_cumulative_grains, list(view.claim_proof))
        stakes = {Role(s.role).name.lower(): s.bonded_grains for s in view.stakes if s.bonded_grains}
        balance, claimed = lab.wallet.balance_grains(), lab.wallet.claimed_grains(lab.identity.address)
        facts = {
            "address": lab.address,
            "balance_grains": balance,
            "stakes_grains": stakes,
            "earned_grains": view.earned_grains,
            "claimed_grains": claimed,
        }
        if chosen.json:
            print(json.dumps(facts))
            return
        print(f"account  {lab.address}")
        print(f"balance  {pot(balance)} POT")
        for name, amount in stakes.items():
            print(f"stake    {pot(amount)} POT as {name}")
        print(f"earned   {pot(view.earned_grains)} POT, of which {pot(claimed)} POT claimed")


def _ask_password() -> str:
    import getpass

    first = getpass.getpass("password for the new keystore: ")
    if not first or first != getpass.getpass("once more: "):
        raise PotLabError("the two passwords differ, or are empty")
    return first
