"""The process that orders and pays for the panel (`pot_lab.notebook.desk`): started when it is first asked, ended when
it was not asked for long, and started anew when it has died. The server itself holds no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

ANSWER_WITHIN_S = 300.0
"""An order may wait so long for its upload and its payment's confirmation."""
IDLE_S = 600.0
LINE_LIMIT_BYTES = 1 << 20
_COMMAND = ("-m", "pot_lab.notebook.desk")


class DeskRefusal(Exception):
    """The desk refused, or did not answer; its text is for the user.

    Attributes:
        field: the field of the form that is wrong; "" where it is none.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class DeskProcess:
    """Asks the desk, one question after the other is written, answers come as they are ready."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._idle: asyncio.TimerHandle | None = None
        self._starting = asyncio.Lock()

    async def ask(self, question: str, what: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            DeskRefusal: it was refused, with the reason in the user's words, or the process ended meanwhile.
        """
        process = await self._running()
        self._last_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[self._last_id] = answer
        if process.stdin is None:
            raise DeskRefusal("the desk has no input")
        try:
            process.stdin.write(json.dumps({"id": self._last_id, "ask": question, "with": what}).encode() + b"\n")
            told = await asyncio.wait_for(asyncio.shield(answer), ANSWER_WITHIN_S)
        except (TimeoutError, ConnectionError) as error:
            raise DeskRefusal(
                f"no answer within {ANSWER_WITHIN_S:g} s; whether an order was placed is seen in the list of orders"
            ) from error
        finally:
            self._rest_later()
        if "error" in told:
            raise DeskRefusal(str(told["error"]), str(told.get("field", "")))
        return dict(told["answer"])

    def stop(self) -> None:
        """End the process: it does at the end of its input."""
        if self._idle is not None:
            self._idle.cancel()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *_COMMAND,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C at Lab's terminal must not cut an order in two
                    limit=LINE_LIMIT_BYTES,
                )
                self._reader = asyncio.create_task(self._read(self._process))
            return self._process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is not None:
            with contextlib.suppress(ValueError, ConnectionError):  # a line that is too long ends it
                async for line in process.stdout:
                    told = json.loads(line)
                    answer = self._pending.pop(told.get("id"), None)
                    if answer is not None and not answer.done():
                        answer.set_result(told)
        if self._process is process:  # its exit status comes later, and nothing that is asked now may go to it
            self._process = None
        ended = "the desk's process ended; whether an order was placed is seen in the list of orders"
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result({"error": ended})
        self._pending.clear()

    def _rest_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._rest)

    def _rest(self) -> None:
        if self._pending:
            self._rest_later()
        else:
            self.stop()
