"""Which photographs are computed when, and together with which: no HTTP and no torch in here.

A request is admitted or refused as a whole: what is admitted is answered. Its photograph is submitted to all of its
models at once. A lane (one for each device) takes, as soon as it is free, what waits for one model, up to its largest
batch; models take turns, oldest photograph first. A request that is cancelled or too late costs no forward pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary


class HasLargest(Hashable, Protocol):
    @property
    def largest(self) -> int: ...  # the model's largest batch


Model = TypeVar("Model", bound=HasLargest)
Item = TypeVar("Item")
Result = TypeVar("Result")

# Computes a batch of one model: a result for each item, in order. It is not called again before it has answered.
Lane = Callable[[Model, Sequence[Item]], Awaitable[Sequence[Result]]]

_LINGER = 0.1  # of a model's last forward pass: how long a free lane waits for photographs that are about to come


class Refused(Exception):
    """The request cannot be admitted now. `retry_after`: seconds after which another try is worth it."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Expired(Exception):
    """The request's deadline has passed."""


class Limits(NamedTuple):
    """What may be in flight at once."""

    requests: int
    megapixels: float


class Done(NamedTuple, Generic[Result]):
    """One photograph computed by one model."""

    result: Result
    batch: int  # photographs in its forward pass
    queue_seconds: float
    forward_seconds: float  # of the whole batch


class _Pass(NamedTuple):  # a model's last forward pass
    seconds: float = 0.0
    size: int = 1
    ended: float = 0.0
    asked: int = 0  # photographs in it, and those that waited at its end: as many may soon wait again


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Model, Item, Result]):
    model: Model
    item: Item
    number: int  # in the order of arrival at all queues
    arrived: float
    future: asyncio.Future[Done[Result]]


class Ticket(Generic[Model, Item, Result]):
    """An admitted request."""

    def __init__(self, scheduler: Scheduler[Model, Item, Result], megapixels: float) -> None:
        self._scheduler = scheduler
        self.megapixels = megapixels
        self.entries: list[_Entry[Model, Item, Result]] | None = None  # None: still being prepared

    def submit(self, items: Mapping[Model, Item]) -> dict[Model, asyncio.Future[Done[Result]]]:
        """Puts the photograph, as each model's item, into the queues of all of its models; once for each ticket."""
        self.entries = [self._scheduler._enqueue(model, item) for model, item in items.items()]
        return {entry.model: entry.future for entry in self.entries}


class Scheduler(Generic[Model, Item, Result]):
    """`on_batch` is told model, size and seconds of every forward pass."""

    def __init__(
        self,
        lanes: Sequence[Lane[Model, Item, Result]],
        limits: Limits,
        on_batch: Callable[[Model, int, float], None] = lambda model, size, seconds: None,
    ) -> None:
        self.limits, self.draining = limits, False
        self._lanes, self._on_batch = lanes, on_batch
        self._tickets: set[Ticket[Model, Item, Result]] = set()
        self._waiting: dict[Model, deque[_Entry[Model, Item, Result]]] = {}
        self._last: WeakKeyDictionary[Model, _Pass] = WeakKeyDictionary()
        self._numbers, self._changed = itertools.count(), asyncio.Event()

    @property
    def requests(self) -> int:
        """How many are admitted and not yet answered."""
        return len(self._tickets)

    @property
    def megapixels(self) -> float:
        """Of the photographs of the admitted requests."""
        return math.fsum(ticket.megapixels for ticket in self._tickets)

    @property
    def depth(self) -> int:
        """How many photographs wait for a model, counted for each model."""
        return sum(map(len, self._waiting.values()))

    def check(self, megapixels: float = 0.0) -> None:
        """Raises Refused where a request with such a photograph would not be admitted now."""
        if self.draining:
            raise Refused("the server is stopping and takes no new photographs", self.retry_after())
        if self.requests >= self.limits.requests:
            raise Refused(f"{self.requests} requests are in progress, as many as --queue allows", self.retry_after())
        if self.megapixels + megapixels > self.limits.megapixels:
            raise Refused(
                f"photographs of {self.megapixels:.0f} megapixels are in progress and this one has "
                f"{megapixels:.0f}; at most {self.limits.megapixels:.0f} are held at once",
                self.retry_after(),
            )

    def retry_after(self) -> int:
        """Whole seconds, by estimate, until what waits now is computed; at least 1."""
        last = [(len(queue), self._last.get(model, _Pass())) for model, queue in self._waiting.items()]
        return max(1, math.ceil(sum(waiting * one.seconds / one.size for waiting, one in last) / len(self._lanes)))

    @contextlib.asynccontextmanager
    async def admit(self, megapixels: float, deadline: float) -> AsyncIterator[Ticket[Model, Item, Result]]:
        """Inside, the request counts as in progress. Raises Refused, and Expired once the loop's time is `deadline`."""
        self.check(megapixels)
        ticket = Ticket(self, megapixels)
        self._tickets.add(ticket)
        try:
            async with asyncio.timeout_at(deadline) as limit:
                yield ticket
        except TimeoutError:
            if not limit.expired():
                raise
            raise Expired from None
        finally:
            self._leave(ticket)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, the lanes compute. Afterwards, what is not computed is cancelled."""
        workers = [asyncio.create_task(self._work(lane)) for lane in self._lanes]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for entry in [entry for ticket in self._tickets for entry in ticket.entries or ()]:
                entry.future.cancel()

    async def drain(self) -> None:
        """Admits nothing any more, and returns once all that was admitted is answered."""
        self.draining = True
        while self._tickets:
            await self._change()

    def _enqueue(self, model: Model, item: Item) -> _Entry[Model, Item, Result]:
        loop = asyncio.get_running_loop()
        entry = _Entry(model, item, next(self._numbers), loop.time(), loop.create_future())
        self._waiting.setdefault(model, deque()).append(entry)
        self._changed.set()
        return entry

    def _leave(self, ticket: Ticket[Model, Item, Result]) -> None:
        self._tickets.discard(ticket)
        for entry in ticket.entries or ():
            if not entry.future.cancel() and not entry.future.cancelled():
                entry.future.exception()  # asyncio would complain of an exception that nobody asked for
            self._drop(entry)
        self._changed.set()

    def _drop(self, entry: _Entry[Model, Item, Result]) -> None:
        queue = self._waiting.get(entry.model, deque())
        with contextlib.suppress(ValueError):  # it has been computed, or is being computed
            queue.remove(entry)
            if not queue:
                del self._waiting[entry.model]

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _work(self, lane: Lane[Model, Item, Result]) -> None:
        while True:
            while not self._waiting:
                await self._change()
            model = min(self._waiting, key=lambda model: self._waiting[model][0].number)  # what has waited longest
            await self._linger(model)
            batch = list(self._waiting.get(model, ()))[: model.largest]
            for entry in batch:
                self._drop(entry)
            if batch:
                await self._compute(lane, batch)

    async def _linger(self, model: Model) -> None:
        """Waits a little where that can make the batch larger: for photographs that are being decoded, and after a
        forward pass for the clients that it answered, who often ask again at once."""
        last, now = self._last.get(model, _Pass()), asyncio.get_running_loop().time()
        returning = last.asked if now < last.ended + _LINGER * last.seconds else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER * last.seconds):
                while (waiting := len(self._waiting.get(model, ()))) < model.largest:
                    if waiting >= returning and all(ticket.entries is not None for ticket in self._tickets):
                        return
                    await self._change()

    async def _compute(self, lane: Lane[Model, Item, Result], batch: Sequence[_Entry[Model, Item, Result]]) -> None:
        """One forward pass; where it fails, one for each photograph, so that a bad one fails alone."""
        model, started = batch[0].model, asyncio.get_running_loop().time()
        try:
            results: Sequence[Result | Exception] = await lane(model, [entry.item for entry in batch])
        except Exception as error:
            if len(batch) > 1:
                for entry in batch:
                    if not entry.future.done():
                        await self._compute(lane, [entry])
                return
            results = [error]
        seconds = (ended := asyncio.get_running_loop().time()) - started
        self._last[model] = _Pass(seconds, len(batch), ended, len(batch) + len(self._waiting.get(model, ())))
        self._on_batch(model, len(batch), seconds)
        there = [pair for pair in zip(batch, results, strict=True) if not pair[0].future.done()]  # the others have gone
        for entry, result in there:
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(Done(result, len(batch), started - entry.arrived, seconds))
