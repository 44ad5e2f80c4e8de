"""A photograph's way through the server, whatever brought it: checked, admitted, decoded, computed, drawn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from segbench.engine.inference import Prediction
from segbench.ledger.models import Promoted
from segbench.serve import answers, networks, photographs
from segbench.serve.answers import Draw, Segmented
from segbench.serve.jobs import Jobs
from segbench.serve.metrics import Metrics
from segbench.serve.networks import Lane, Network
from segbench.serve.pool import Pool
from segbench.serve.scheduler import Done, Limits, Refused, Scheduler
from segbench.serve.uploads import Uploads

_IN_FLIGHT = 2  # photographs of the largest size that may be decoded at once
_BYTES_PER_PIXEL = 3

Answer = TypeVar("Answer")


class Settings(NamedTuple):
    """What the command line decides of a service."""

    devices: tuple[str, ...] = ("auto",)
    largest_batch: int = 8
    queue: int = 64  # requests in progress
    deadline: float = 60.0  # seconds a request may take
    megapixels: float = 40.0  # of one photograph
    upload_bytes: int = 200_000_000


class Service:
    """The models in memory and all that computes with them. `chosen` finds the promoted models to serve."""

    def __init__(self, chosen: Callable[[], Sequence[Promoted]], settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.networks: dict[str, Network] = {}  # empty until they are warm
        self._chosen = chosen
        self._lanes = [Lane(number, device) for number, device in enumerate(settings.devices)]
        self._pool = Pool()
        self.uploads, self.jobs = Uploads(settings.upload_bytes), Jobs()
        in_flight = _IN_FLIGHT * settings.megapixels + settings.upload_bytes / _BYTES_PER_PIXEL / 1e6
        self.scheduler = self._scheduler(Limits(settings.queue, in_flight))
        self.metrics.watch(self.scheduler)

    def _scheduler(self, limits: Limits) -> Scheduler[Network, NDArray[np.uint8], Prediction]:
        return Scheduler(
            self._lanes, limits, lambda network, size, seconds: self.metrics.batch(network.name, size, seconds)
        )

    @property
    def device(self) -> str:
        """What computes, for people: "cpu (2 threads), bf16"."""
        return "; ".join(lane.compute.description for lane in self._lanes)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, photographs are computed."""
        try:
            async with self.scheduler.running():
                yield
        finally:
            self._pool.close()
            for lane in self._lanes:
                lane.close()

    async def load(self) -> None:
        """Reads the chosen models and warms them up; what was served before goes on until all of them are ready.

        Raises UserError where one cannot be read.
        """
        chosen = named(await self._pool.run(self._chosen))
        loaded = [await self._load(name, one) for name, one in chosen.items()]
        self.networks = {network.name: network for network in loaded}

    async def _load(self, name: str, promoted: Promoted) -> Network:
        copies, largest = [], []
        for lane in self._lanes:
            copies.append(await self._pool.run(lane.load, promoted))
            largest.append(await lane.run(lane.warm_up, copies[-1], promoted.card, self.settings.largest_batch))
        fingerprint = networks.fingerprint(promoted.card, self._lanes[0].compute.record.precision)
        interval = await self._pool.run(networks.interval, promoted)
        return Network(name, promoted.card, fingerprint, tuple(copies), max(largest), interval)

    def check(self) -> None:
        """Raises Refused where no photograph can be taken now."""
        if not self.networks:
            raise Refused("the models are still being loaded", 5)
        self.scheduler.check()

    async def drain(self) -> None:
        """Takes no more photographs, and returns once all that were admitted are answered; jobs may be fetched a
        little longer."""
        await self.scheduler.drain()
        await self.jobs.fetched()

    async def in_pool(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Calls what must not hold up the event loop."""
        return await self._pool.run(function, *arguments)

    async def measure(self, content: bytes) -> float:
        """What a photograph takes of the megapixels in flight: its own, by its header, and those that the upload's
        bytes would be. Raises UserError for what can never be served, and Refused for what cannot be served now."""
        megapixels = await self._pool.run(photographs.megapixels, content, self.settings.megapixels)
        megapixels += len(content) / _BYTES_PER_PIXEL / 1e6
        self.scheduler.check(megapixels)
        return megapixels

    async def segment(
        self,
        content: bytes,
        megapixels: float,
        chosen: Sequence[Network],
        deadline: float,
        draw: Draw,
        answer: Callable[[Sequence[Segmented], float], bytes],
    ) -> bytes:
        """What `answer` makes of each network's class map and picture, and of the seconds that decoding took.

        Raises Refused, Expired, and UserError where the photograph is damaged.
        """
        async with self.scheduler.admit(megapixels, deadline) as ticket:
            photograph = await self._pool.run(photographs.decode, content, [network.card.size for network in chosen])
            self.metrics.decoded(photograph.seconds)
            futures = ticket.submit({network: photograph.seen[network.card.size] for network in chosen})
            drawing = [self._draw(network, futures[network], photograph.pixels, draw) for network in chosen]
            results = await _all(drawing)
            return await self._pool.run(answer, results, photograph.seconds)

    async def _draw(
        self, network: Network, future: asyncio.Future[Done[Prediction]], pixels: NDArray[np.uint8], draw: Draw
    ) -> Segmented:
        return await self._pool.run(answers.segmented, network, await future, pixels, draw)


def named(chosen: Sequence[Promoted]) -> dict[str, Promoted]:
    """The models under the names that the routes call them by."""
    return {_name(one, chosen): one for one in chosen}


def _name(one: Promoted, among: Sequence[Promoted]) -> str:
    """A model's study, with its seed where several of `among` are of that study."""
    several = sum(other.card.study == one.card.study for other in among) > 1
    return f"{one.card.study}-seed{one.card.seed}" if several else one.card.study


async def _all(calls: Sequence[Coroutine[None, None, Answer]]) -> list[Answer]:
    """The answers of all. If one fails, or the caller is cancelled, all of them end before this does."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
