"""Idempotency: a request that comes again under its request_id gets the first answer.

This module owns the three pieces of that promise: the `Fingerprint`, which tells whether two requests say the same;
the `Answers` that a run remembers, each committed together with the effect of its request; and `Repeats`, which finds
the first answer, or refuses another request that uses the same request_id.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from stepwire.server.runs.errors import RequestIdReusedError, RunNotFoundError, RunsError, as_runs_error
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.runs.payloads import digest, digest_of_bytes
from stepwire.server.runs.requests import StartRequest
from stepwire.server.store import KEPT_REQUESTS, PrunedStart, RequestRecord, RunKey, RunRecord, RunStore, StoreError
from stepwire.workflow.hosting import Event, Received, event_to_json

__all__ = ["Answers", "Fingerprint", "Repeats"]


MakeEvent = Callable[[], Awaitable[Received]]
"""Make the event of a request from its payload."""


class Fingerprint:
    """Tell whether two requests with one request_id are the same request.

    `text` is what the store keeps. For an event it has two digests: of the request without its payload, and of the
    payload's bytes as the client sent them. A client that retries sends the same bytes, so nothing has to be parsed.
    A repeat in another spelling differs in the second digest alone; `Repeats` then compares it with the event in the
    log. A write to the state is not in the log, so its digest is made of the parsed values.

    The fingerprint is not made of the validated event: its defaults may differ each time it is made (a time, a random
    id), and after a deploy.
    """

    __slots__ = ("_after", "_before", "_text", "payload")

    def __init__(self, before: tuple[Any, ...], payload: bytes | None = None, after: tuple[Any, ...] = ()) -> None:
        """Describe a request.

        Args:
            before: JSON-able values that identify it; the method comes first.
            payload: The JSON of its event; None if it has none.
            after: Further JSON-able values.
        """
        self._before = before
        self._after = after
        self.payload = payload
        self._text = ""

    @classmethod
    def of_start(cls, request: StartRequest) -> Fingerprint:
        """Return the fingerprint of a StartRun."""
        snapshot = request.snapshot
        return cls(
            (request.workflow,),
            request.input or b"",
            (
                request.run_id,
                request.labels,
                request.from_run,
                snapshot.run_id if snapshot else None,
                snapshot.sequence if snapshot else None,
                request.timeout,
                *([True] if request.fresh else []),  # absent, so that the fingerprints of earlier versions stay
            ),
        )

    @property
    def text(self) -> str:
        """What is kept of the request."""
        if not self._text:
            if self.payload is None:
                self._text = digest(*self._before)
            else:
                self._text = f"{digest(self._before, self._after)}:{digest_of_bytes(self.payload)}"
        return self._text

    def same(self, known: str) -> bool | None:
        """Compare with what was kept of an earlier request; None if they differ in the bytes of the payload alone."""
        if known == self.text:
            return True
        if self.payload is None:
            return False
        head, colon, _ = known.partition(":")
        if not colon:  # kept by a version that parsed every payload for its digest
            return known == digest(*self._before, _parsed(self.payload), *self._after)
        return None if head == self.text.partition(":")[0] else False


class Answers:
    """The answers that a run in memory remembers, by request_id, also those whose commit is in flight."""

    __slots__ = ("_known", "uncommitted")

    def __init__(self) -> None:
        # Most runs never answer a request with an id, and many runs wait in memory.
        self._known: dict[str, RequestRecord] | None = None
        self.uncommitted: list[RequestRecord] | None = None
        """The answers that no commit has taken yet; None for none."""

    def load(self, records: Iterable[RequestRecord]) -> None:
        """Take over what the store keeps, oldest first."""
        self._known = {record.request_id: record for record in records} or None

    def get(self, request_id: str) -> RequestRecord | None:
        """Return the answer to a request, if it is known."""
        return None if self._known is None else self._known.get(request_id)

    def remember(self, record: RequestRecord) -> None:
        """Remember an answer; the next commit takes it. The oldest one is forgotten, as the store does."""
        if self._known is None:
            self._known = {}
        if self.uncommitted is None:
            self.uncommitted = []
        self._known[record.request_id] = record
        if len(self._known) > KEPT_REQUESTS:
            del self._known[next(iter(self._known))]
        self.uncommitted.append(record)

    def take(self) -> list[RequestRecord]:
        """Hand the answers over that no commit has taken yet."""
        taken, self.uncommitted = self.uncommitted, None
        return taken or []


class Repeats:
    """Find the first answer to a request that came before. All that it tells is durable."""

    def __init__(self, store: RunStore, codec: EntryCodec) -> None:
        """Look answers up in a store. `codec` decodes the log, for payloads in another spelling."""
        self._store = store
        self._codec = codec

    async def of_ended_run(self, key: RunKey, request_id: str) -> RequestRecord | None:
        """Return what an ended run answered to a request; None if it is not known."""
        try:
            records = await self._store.requests(key)
        except StoreError as error:
            raise as_runs_error(error) from error
        return next((record for record in reversed(records) if record.request_id == request_id), None)

    async def of_start(
        self, namespace: str, request_id: str, fingerprint: Fingerprint, event: MakeEvent
    ) -> RunRecord | None:
        """Return the run that a StartRun with this request_id started; None if there is none.

        Args:
            namespace: The namespace of the caller.
            request_id: The request_id.
            fingerprint: The fingerprint of the repeat.
            event: Make the start event from the payload of the repeat.

        Raises:
            RequestIdReusedError: The first request was another one.
            RunNotFoundError: The run was deleted by retention.
        """
        try:
            known = await self._store.find_start(namespace, request_id)
        except StoreError as error:
            raise as_runs_error(error) from error
        if known is None:
            return None
        await self._check(known.key, known.start_digest, 1, fingerprint, event)
        if isinstance(known, PrunedStart):
            raise RunNotFoundError(known.key.run_id)
        return known

    async def response(
        self, key: RunKey, known: RequestRecord, fingerprint: Fingerprint, event: MakeEvent | None = None
    ) -> dict[str, Any]:
        """Return the first answer to a request.

        Args:
            key: The run.
            known: What is remembered of the first request.
            fingerprint: The fingerprint of the repeat.
            event: Make the event from the payload of the repeat; None if the payload has a canonical spelling.

        Raises:
            RequestIdReusedError: The first request was another one.
        """
        await self._check(key, known.digest, known.response.get("sequence", 0), fingerprint, event)
        return known.response

    async def _check(
        self, key: RunKey, known: str, sequence: int, fingerprint: Fingerprint, event: MakeEvent | None
    ) -> None:
        same = fingerprint.same(known)
        if same is None and event is not None:
            data = await self._logged(key, sequence)
            try:
                same = data is not None and _says(data, (await event()).event)
            except RunsError:  # the payload of the repeat is not valid
                same = False
        if not same:
            raise RequestIdReusedError("This request_id came before with another request")

    async def _logged(self, key: RunKey, sequence: int) -> bytes | None:
        """Return the JSON of the event at a sequence of the log; None if it was trimmed."""
        try:
            chunks = await self._store.entries(key, sequence - 1, 1)
        except StoreError as error:
            raise as_runs_error(error) from error
        for chunk in chunks:
            for part in (chunk.public, chunk.internal):
                for entry in self._codec.decode(part) if part else ():
                    if entry.sequence == sequence:
                        return entry.data
        return None


def _says(data: bytes, event: Event) -> bool:
    """Tell whether an event says what the JSON of an earlier one says.

    A default that a factory makes anew each time is left out of the comparison, unless the event was given a value.
    """
    made = {
        field.alias or name
        for name, field in type(event).model_fields.items()
        if field.default_factory is not None and name not in event.model_fields_set
    }
    first, second = (
        {name: value for name, value in json.loads(text).items() if name not in made}
        for text in (data, event_to_json(event))
    )
    return bool(first == second)


def _parsed(payload: bytes) -> Any:
    """Return what a JSON payload says; its text if it is not JSON."""
    try:
        return json.loads(payload.decode()) if payload else {}
    except (ValueError, RecursionError):
        return payload.decode("utf-8", "replace")
