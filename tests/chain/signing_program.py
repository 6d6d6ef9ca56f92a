"""A program that keeps keys and signs when it is asked, as a hardware wallet's bridge does; with eth-account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_account import Account

from pot_lab.crypto.identity import Identity, format_address
from tests.chain.answering import answering


@contextmanager
def signing_program(*keys: Identity) -> Iterator[tuple[str, list[str]]]:
    """Yields its address, and the methods that it was asked, in a row."""
    secrets = {format_address(each.address).lower(): each.secret for each in keys}
    asked: list[str] = []

    def answer(method: str, parameters: list[Any]) -> Any:
        asked.append(method)
        if method == "eth_accounts":
            return [format_address(each.address) for each in keys]
        if method == "eth_signTransaction":
            given = dict(parameters[0])
            secret = secrets[given.pop("from").lower()]
            given["type"] = 2
            return "0x" + bytes(Account.sign_transaction(given, secret).raw_transaction).hex()
        account, message = parameters
        return "0x" + bytes(Account.sign_typed_data(secrets[account.lower()], full_message=message).signature).hex()

    def reply(raw: bytes) -> tuple[int, bytes]:
        request = json.loads(raw)
        body = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            body["result"] = answer(request["method"], request["params"])
        except KeyError as error:
            body["error"] = {"code": -32000, "message": f"no key of {error}"}
        return 200, json.dumps(body).encode()

    with answering(reply) as url:
        yield url, asked
