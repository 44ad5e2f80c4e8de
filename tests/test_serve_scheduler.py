"""The scheduler under a clock that jumps: no test waits, and none depends on how fast the machine is."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.serve.scheduler import Expired, Limits, Refused, Scheduler

Answer = TypeVar("Answer")


class JumpingLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, it sets its clock to the next moment at which something is."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen again: somebody is never answered"
        self._loop.now += timeout
        return super().select(0)


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)


@dataclass(frozen=True, eq=False)
class Model:
    name: str
    largest: int
    first: float = 0.05  # seconds of a forward pass, and of each image in it
    each: float = 0.01


@dataclass(frozen=True, eq=False)
class Item:
    request: int
    bad: bool = False

    def __eq__(self, other: object) -> bool:
        raise TypeError("photographs are arrays, which cannot be compared so")


class Call(NamedTuple):
    model: Model
    items: tuple[Item, ...]
    began: float
    ended: float


class Lane:
    """Sleeps as long as a network computes; a bad item makes the whole call fail."""

    def __init__(self, watch: Callable[[Model, Sequence[Item]], None] = lambda model, items: None) -> None:
        self.calls: list[Call] = []
        self._watch, self._busy = watch, False

    async def __call__(self, model: Model, items: Sequence[Item]) -> list[str]:
        assert not self._busy
        self._watch(model, items)
        self._busy, began = True, asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(model.first + model.each * len(items))
        finally:
            self._busy = False
            self.calls.append(Call(model, tuple(items), began, asyncio.get_running_loop().time()))
        if any(item.bad for item in items):
            raise ValueError("a bad item")
        return [f"{model.name}{item.request}" for item in items]


class Arrival(NamedTuple):
    gap: float  # after the one before
    decoding: float
    models: frozenset[int]
    megapixels: float
    deadline: float
    leaves: float | None  # after its arrival
    bad: bool


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        gap=st.sampled_from([0.0, 0.0, 0.001, 0.03, 0.2]),
        decoding=st.sampled_from([0.0, 0.004, 0.05]),
        models=st.frozensets(st.integers(0, 1), min_size=1),
        megapixels=st.sampled_from([0.5, 2.0, 8.0]),
        deadline=st.sampled_from([0.02, 0.3, 60.0, 60.0, 60.0]),
        leaves=st.sampled_from([None, None, None, 0.0, 0.01, 0.08]),
        bad=st.sampled_from([False] * 7 + [True]),
    ),
    max_size=40,
)


class Replay:
    """Some arrivals, replayed: what became of each."""

    def __init__(self, arrivals: Sequence[Arrival], models: Sequence[Model], lanes: int, limits: Limits) -> None:
        self.arrivals, self.models, self.limits = arrivals, models, limits
        self.outcomes: Counter[tuple[int, str]] = Counter()
        self.gone: set[int] = set()
        self.submitted: dict[Model, list[int]] = {model: [] for model in models}
        self.passes: list[tuple[Model, list[Item]]] = []  # in the order in which they began
        self.lanes = [Lane(self._watch) for _ in range(lanes)]

    def _watch(self, model: Model, items: Sequence[Item]) -> None:
        self._within_bounds()
        assert 1 <= len(items) <= model.largest
        assert not {item.request for item in items} & self.gone
        self.passes.append((model, list(items)))

    def _within_bounds(self) -> None:
        assert self.scheduler.requests <= self.limits.requests
        assert self.scheduler.megapixels <= self.limits.megapixels

    async def play(self) -> None:
        self.scheduler = Scheduler[Model, Item, str](self.lanes, self.limits)
        async with self.scheduler.running():
            requests = []
            for number, arrival in enumerate(self.arrivals):
                await asyncio.sleep(arrival.gap)
                requests.append(asyncio.create_task(self._request(number, arrival)))
                if arrival.leaves is not None:
                    asyncio.get_running_loop().call_later(arrival.leaves, requests[-1].cancel)
            await asyncio.gather(*requests, return_exceptions=True)
            await self.scheduler.drain()
            assert (self.scheduler.requests, self.scheduler.megapixels, self.scheduler.depth) == (0, 0, 0)
            with pytest.raises(Refused):
                self.scheduler.check()

    async def _request(self, number: int, arrival: Arrival) -> None:
        before = self.scheduler.requests, self.scheduler.megapixels
        try:
            await self._admitted(number, arrival)
            outcome = "answered"
        except Refused as refusal:
            full = before[0] >= self.limits.requests or before[1] + arrival.megapixels > self.limits.megapixels
            outcome = "refused" if full and refusal.retry_after >= 1 else "refused without need"
        except Expired:
            outcome = "expired"
        except ValueError:
            outcome = "bad"
        except asyncio.CancelledError:
            outcome = "left"
        self.gone.add(number)
        self.outcomes[number, outcome] += 1

    async def _admitted(self, number: int, arrival: Arrival) -> None:
        deadline = asyncio.get_running_loop().time() + arrival.deadline
        async with self.scheduler.admit(arrival.megapixels, deadline) as ticket:
            self._within_bounds()
            await asyncio.sleep(arrival.decoding)
            chosen = [self.models[index] for index in sorted(arrival.models)]
            futures = ticket.submit({model: Item(number, arrival.bad) for model in chosen})
            for model in chosen:
                self.submitted[model].append(number)
            for model in chosen:
                assert (await futures[model]).result == f"{model.name}{number}"


@settings(deadline=None, max_examples=150)
@given(
    ARRIVALS,
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 2),
    st.builds(Limits, st.integers(1, 12), st.sampled_from([8.0, 20.0])),
)
def test_any_arrivals(arrivals: list[Arrival], largest: tuple[int, int], lanes: int, limits: Limits) -> None:
    models = [Model("a", largest[0]), Model("b", largest[1], 0.02, 0.03)]
    replay = Replay(arrivals, models, lanes, limits)
    run(replay.play())

    assert sorted(number for number, _ in replay.outcomes) == list(range(len(arrivals)))  # each has one outcome
    assert set(replay.outcomes.values()) <= {1}
    for number, outcome in replay.outcomes:
        arrival = arrivals[number]
        could_be = {"answered", "refused"}
        could_be |= {"expired"} if arrival.deadline < 60 else set()
        could_be |= {"left"} if arrival.leaves is not None else set()
        could_be = could_be - {"answered"} | {"bad"} if arrival.bad else could_be
        assert outcome in could_be, arrival

    good = [(model, items) for model, items in replay.passes if not any(item.bad for item in items)]
    times = Counter((model, item.request) for model, items in good for item in items)
    assert set(times.values()) <= {1}  # nothing that could be computed was computed twice
    for model in models:
        order = [item.request for own, items in replay.passes if own is model for item in items]
        first = list(dict.fromkeys(order))
        place = {number: index for index, number in enumerate(replay.submitted[model])}
        assert [place[number] for number in first] == sorted(place[number] for number in first)


def serve(lane: Lane, limits: Limits, requests: Sequence[tuple[float, Sequence[Model]]], prepare: float = 0.0) -> None:
    """Requests that begin at a time and ask some models."""

    async def request(scheduler: Scheduler[Model, Item, str], number: int, at: float, models: Sequence[Model]) -> None:
        await asyncio.sleep(at)
        async with scheduler.admit(1, at + 60) as ticket:
            await asyncio.sleep(prepare)
            futures = ticket.submit({model: Item(number) for model in models})
            await asyncio.gather(*futures.values())

    async def play() -> None:
        scheduler = Scheduler[Model, Item, str]([lane], limits)
        async with scheduler.running(), asyncio.TaskGroup() as group:
            for number, (at, models) in enumerate(requests):
                group.create_task(request(scheduler, number, at, models))

    run(play())


A, B = Model("a", 8), Model("b", 8)
MANY = Limits(100, 1000)


def test_a_lane_takes_what_waits_and_models_take_turns() -> None:
    lane = Lane()
    serve(lane, MANY, [(0.0, [A, B]), *[(0.001, [A, B])] * 10])
    sizes = [(call.model.name, len(call.items)) for call in lane.calls]
    assert sizes == [("a", 1), ("b", 8), ("a", 8), ("b", 3), ("a", 2)]
    assert lane.calls[0].began == 0  # nobody waits for company that is not there


def test_a_lane_lingers_for_those_being_decoded_but_not_long() -> None:
    lane = Lane()
    serve(lane, MANY, [(0.0, [A]), (0.055, [A]), (0.058, [A])], prepare=0.005)
    assert [len(call.items) for call in lane.calls] == [1, 2]
    slow = Lane()
    serve(slow, MANY, [(0.0, [A]), (0.02, [A]), (0.08, [A])], prepare=0.03)
    assert [len(call.items) for call in slow.calls] == [1, 1, 1]
    assert slow.calls[1].began - slow.calls[0].ended == pytest.approx(0.1 * 0.06)


@pytest.mark.parametrize("clients", [1, 3])
def test_a_lane_lingers_for_those_just_answered_but_not_for_one_alone(clients: int) -> None:
    async def client(scheduler: Scheduler[Model, Item, str], number: int) -> None:
        for turn in range(4):
            async with scheduler.admit(1, 60) as ticket:
                await ticket.submit({A: Item(10 * number + turn)})[A]
            await asyncio.sleep(0.001 * number)  # the next one comes a little later than the others'

    async def play() -> None:
        scheduler = Scheduler[Model, Item, str]([lane], MANY)
        async with scheduler.running():
            await asyncio.gather(*(client(scheduler, number) for number in range(clients)))

    lane = Lane()
    run(play())
    assert [len(call.items) for call in lane.calls] == [clients] * 4
    gaps = [after.began - before.ended for before, after in itertools.pairwise(lane.calls)]
    assert gaps == pytest.approx([0.001 * (clients - 1)] * 3)


def test_who_leaves_costs_no_forward_pass() -> None:
    lane = Lane()

    async def play() -> None:
        scheduler = Scheduler[Model, Item, str]([lane], MANY)

        async def request(number: int) -> None:
            async with scheduler.admit(1, 60) as ticket:
                await asyncio.gather(*ticket.submit({A: Item(number)}).values())

        async with scheduler.running():
            tasks = [asyncio.create_task(request(number)) for number in range(12)]
            await asyncio.sleep(0.001)  # the first ones are being computed
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert scheduler.depth == scheduler.requests == 0
            await asyncio.sleep(1)

    run(play())
    assert len(lane.calls) == 1


def test_a_bad_photograph_fails_alone() -> None:
    lane = Lane()

    async def play() -> list[object]:
        scheduler = Scheduler[Model, Item, str]([lane], MANY)

        async def request(number: int) -> str:
            async with scheduler.admit(1, 60) as ticket:
                return (await ticket.submit({A: Item(number, number == 3)})[A]).result

        async with scheduler.running():
            return await asyncio.gather(*(request(number) for number in range(6)), return_exceptions=True)

    answers = run(play())
    assert isinstance(answers.pop(3), ValueError)
    assert answers == ["a0", "a1", "a2", "a4", "a5"]


def test_stopping_at_once_leaves_nobody_waiting() -> None:
    async def play() -> list[Any]:
        scheduler = Scheduler[Model, Item, str]([Lane()], MANY)

        async def request(number: int) -> None:
            async with scheduler.admit(1, 60) as ticket:
                await ticket.submit({A: Item(number)})[A]

        async with scheduler.running():
            tasks = [asyncio.create_task(request(number)) for number in range(20)]
            await asyncio.sleep(0.001)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(one, asyncio.CancelledError) for one in run(play()))


def test_retry_after_is_the_time_that_the_queue_takes() -> None:
    async def play() -> int:
        scheduler = Scheduler[Model, Item, str]([Lane()], Limits(9, 100))
        slow = Model("slow", 1, 2.0, 0.0)

        async def request(number: int) -> None:
            async with scheduler.admit(1, 600) as ticket:
                await ticket.submit({slow: Item(number)})[slow]

        async with scheduler.running():
            tasks = [asyncio.create_task(request(number)) for number in range(9)]
            await asyncio.sleep(2.5)  # one is done, one is computed, seven wait
            tasks.append(asyncio.create_task(request(9)))
            await asyncio.sleep(0.1)
            with pytest.raises(Refused) as refused:
                scheduler.check()
            for task in tasks:
                task.cancel()
            return refused.value.retry_after

    assert run(play()) == 16  # eight of them
