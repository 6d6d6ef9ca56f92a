"""`pot-lab order` and `pot-lab orders`."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from pot_lab.cli.common import _lab, _read
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.notebook.lab import Lab


def _order(chosen: argparse.Namespace) -> None:
    from pot_lab.scoring import ModelArtifact

    with _lab(chosen) as lab:
        artifact = ModelArtifact(graph=_read(chosen.graph), weights=_read(chosen.weights))
        order = lab.order(
            artifact,
            chosen.train,
            chosen.test,
            reward=chosen.reward,
            train_for=chosen.train_for,
            score=chosen.score,
            title=chosen.title,
        )
        if chosen.wait:
            order.wait(settled=True)
        print(json.dumps(_order_facts(order.view())) if chosen.json else repr(order))


def _orders(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.notebook.quantities import pot, seconds_text

    with _lab(chosen) as lab:
        if chosen.order:
            order = lab.get(_order_id(lab, chosen.order))
            print(json.dumps(_order_facts(order.view())) if chosen.json else repr(order))
            return
        found = lab.client.orders(client=lab.identity.address if chosen.mine else b"")
        if chosen.json:
            facts = [{"order": s.id.hex(), "title": s.title, "window": s.window, "claims": s.claims} for s in found]
            print(json.dumps(facts))
            return
        for s in found:
            left = seconds_text(s.closes_ms - time.time_ns() // 1_000_000) if s.closes_ms else ""
            leader = f"winner {format_address(s.leader)[:10]}" if s.leader else s.void_reason
            facts_text = f"{pot(s.reward_grains):>8} POT  {s.claims} claims  {leader}"
            print(f"{s.id.hex()[:12]}  {s.window:<14} {left:>10}  {facts_text}  {s.title}")
        if not found:
            print("no orders")


def _order_id(lab: Lab, text: str) -> bytes:
    """An order's id from its beginning, as lists show it."""
    text = text.removeprefix("0x").lower()
    if len(text) == 64:
        return bytes.fromhex(text)
    found = [summary.id for summary in lab.client.orders(500) if summary.id.hex().startswith(text)]
    if len(found) != 1:
        raise PotLabError("no order, or more than one, begins so", seen=text, wanted="more digits of an order's id")
    return found[0]


def _order_facts(view: Any) -> dict[str, Any]:
    from pot_lab.crypto.identity import format_address

    return {
        "order": view.id.hex(),
        "title": view.order.title,
        "window": view.window,
        "closes_ms": view.closes_ms,
        "claims": [
            {
                "provider": format_address(c.provider),
                "model": c.mid.hex(),
                "total": c.agreed.total if c.agreed else None,
            }
            for c in view.claims
        ],
        "winner": format_address(view.winner) if view.winner else None,
        "void_reason": view.void_reason,
        "payouts": [
            {"account": format_address(p.account), "grains": p.grains, "reason": p.reason} for p in view.payouts
        ],
    }
