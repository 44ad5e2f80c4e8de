"""The same routes on Ray Serve, where one machine is outgrown: `--launcher ray`.

The application is one deployment, `Routes`, which checks, decodes, draws and holds the jobs; it asks one deployment for
each model, a `Replica` on a GPU of its own where the cluster has any, which makes batches of what waits. Ray's proxy
listens, and Ray carries pixels there and scores back. The nodes see the same files under the same paths.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from segbench.core.errors import UserError
from segbench.engine.inference import Prediction
from segbench.experiment import local_launcher, ray_launcher
from segbench.ledger.models import Promoted
from segbench.runtime import interrupts
from segbench.serve import api, guard, networks, service
from segbench.serve.access import Access
from segbench.serve.networks import Lane, Network
from segbench.serve.scheduler import Done, Limits, Refused, Scheduler, _Entry
from segbench.serve.service import Service, Settings

APPLICATION = "segbench"
_PROBES = 64  # requests of other kinds, beside the photographs in progress
_SECONDS_TO_STOP = 30.0  # beyond the deadline of what was admitted
_RAISED = re.compile(r"[\w.]+Error: ")  # how a traceback ends
_MESSAGE = b"\nsegbench: answering what was admitted, then stopping; press Ctrl-C again to stop at once\n"
_QUIET = LoggingConfig(log_level="ERROR", enable_access_log=False)


class Plan(NamedTuple):
    """What the command line decides."""

    settings: Settings
    access: Access
    replicas: int  # of each model
    address: tuple[str, int]  # host and port that Ray's proxy listens on
    quiet: bool


class Computed(NamedTuple):
    """One photograph computed by a replica."""

    scores: NDArray[np.float32]  # (C, h, w)
    segments: NDArray[np.int64] | None  # (H, W), of panoptic models
    batch: int  # photographs in its forward pass
    place: int  # in that batch
    seconds: float  # of the forward pass


class About(NamedTuple):
    """What a replica says of itself."""

    network: Network  # without its weights
    device: str  # for people


class Replica:
    """One model on one device."""

    async def __init__(self, name: str, promoted: Promoted, largest: int) -> None:  # type: ignore[misc]
        """Raises UserError where the model cannot be loaded."""
        self._lane = Lane(0, "auto")
        model = self._lane.load(promoted)
        best = await self._lane.run(self._lane.warm_up, model, promoted.card, largest)
        fingerprint = networks.fingerprint(promoted.card, self._lane.compute.record.precision)
        self._network = Network(name, promoted.card, fingerprint, (model,), best, networks.interval(promoted))
        self.forward.set_max_batch_size(best)  # type: ignore[attr-defined]

    async def about(self) -> About:
        """Once the model is warm."""
        return About(dataclasses.replace(self._network, copies=()), self._lane.compute.description)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def forward(self, images: list[NDArray[np.uint8]]) -> list[Computed]:
        """Of (H, W, 3) images of the network's size. Ray calls it with what waits, up to the largest batch,
        and not again before it has answered."""
        started = time.perf_counter()
        made = await self._lane(self._network, images)
        seconds = time.perf_counter() - started
        return [_computed(each, len(images), place, seconds) for place, each in enumerate(made)]


def _computed(made: Prediction, batch: int, place: int, seconds: float) -> Computed:
    segments = None if made.segments is None else made.segments.cpu().numpy()
    return Computed(made.scores.float().cpu().numpy(), segments, batch, place, seconds)


class Models(Service):
    """A service whose models compute elsewhere. `handles`: of each model's replicas."""

    def __init__(self, handles: Mapping[str, Any], settings: Settings) -> None:
        self._handles = handles
        self._device = ""
        super().__init__(lambda: (), settings._replace(devices=()))

    @property
    def device(self) -> str:
        """What computes, for people."""
        return self._device

    async def load(self) -> None:
        """Waits until a replica of each model is warm."""
        loaded = {}
        for name, handle in self._handles.items():
            about: About = await handle.about.remote()
            self._device, loaded[name] = about.device, about.network
        self.networks = loaded

    def _scheduler(self, limits: Limits) -> Scheduler[Network, NDArray[np.uint8], Prediction]:
        return Forwarding(self._ask, limits)

    async def _ask(self, network: Network, image: NDArray[np.uint8]) -> Done[Prediction]:
        """Raises Refused where all replicas have as much to do as they take."""
        started = time.perf_counter()
        response = self._handles[network.name].forward.remote(image)
        try:
            answer: Computed = await response
        except asyncio.CancelledError:
            response.cancel()  # it leaves the replica's queue, and costs no forward pass
            raise
        except BackPressureError as error:
            raise Refused(f"all replicas of {network.name} are busy", 1) from error
        if answer.place == 0:
            self.metrics.batch(network.name, answer.batch, answer.seconds)
        waited = time.perf_counter() - started - answer.seconds
        segments = None if answer.segments is None else torch.tensor(answer.segments)
        made = Prediction(torch.tensor(answer.scores), segments)
        return Done(made, answer.batch, max(0.0, waited), answer.seconds)


class Forwarding(Scheduler[Network, NDArray[np.uint8], Prediction]):
    """Admits and refuses as any scheduler, but passes each photograph on at once: Ray makes the batches."""

    def __init__(
        self, ask: Callable[[Network, NDArray[np.uint8]], Coroutine[None, None, Done[Prediction]]], limits: Limits
    ) -> None:
        super().__init__((), limits)
        self._ask = ask

    def _enqueue(self, model: Network, item: NDArray[np.uint8]) -> _Entry[Network, NDArray[np.uint8], Prediction]:
        asked = asyncio.ensure_future(self._ask(model, item))  # cancelled, it cancels what is asked
        return _Entry(model, item, next(self._numbers), asyncio.get_running_loop().time(), asked)

    def retry_after(self) -> int:
        """Whole seconds: nobody here knows what waits in the replicas."""
        return 1


class Routes:
    """The application, as Ray Serve runs it."""

    async def __init__(self, handles: Mapping[str, Any], plan: Plan) -> None:  # type: ignore[misc]
        guard.log(plan.quiet)
        self._service, self._access = Models(handles, plan.settings), plan.access
        await self._service.load()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray, once this object is made."""
        return api.create(self._service, self._access)

    async def device(self) -> str:
        """What a replica computes on, for people."""
        return self._service.device

    async def drain(self) -> None:
        """Takes no more photographs, and returns once all that were admitted are answered."""
        await self._service.drain()


def run(ray: Any, chosen: Sequence[Promoted], plan: Plan, ready: Callable[[str], None]) -> None:
    """Deploys the models and the routes, calls `ready` with what is served once they are warm, and serves until a
    signal. `ray`: the module, joined to a cluster.

    Raises UserError where that serves something already, and where a model cannot be loaded.
    """
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    if serve.status().proxies:
        raise UserError("Ray Serve runs on this cluster already, on an address of its own: end it with serve shutdown")
    host, port = plan.address
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=_QUIET)
    try:
        promoted = service.named(chosen)
        routes = _deploy(promoted, plan, gpus=1 if ray.cluster_resources().get("GPU") else 0)
        ready(f"{', '.join(promoted)} on {plan.replicas} x {routes.device.remote().result()}")
        with interrupts.graceful(_MESSAGE):
            while not interrupts.requested():
                time.sleep(0.1)
            routes.drain.remote().result(timeout_s=plan.settings.deadline + _SECONDS_TO_STOP)
    finally:
        if os.environ.get("RAY_ADDRESS"):  # a cluster of its own ends with this process
            serve.shutdown()  # type: ignore[no-untyped-call]


def _deploy(promoted: Mapping[str, Promoted], plan: Plan, gpus: int) -> Any:
    """The handle of the routes, once all replicas are warm."""
    settings = plan.settings
    threads = max(1, local_launcher.cores() // (len(promoted) * plan.replicas))
    actor: dict[str, Any] = {"num_cpus": 1, "runtime_env": {"env_vars": _environment(threads)}}
    common: dict[str, Any] = {"logging_config": _QUIET, "max_constructor_retry_count": 1}
    replica: Any = serve.deployment(
        Replica,
        num_replicas=plan.replicas,
        ray_actor_options={**actor, "num_gpus": gpus},
        max_ongoing_requests=2 * settings.largest_batch,  # Ray's default of 5 would bound the batches too
        max_queued_requests=settings.queue,
        **common,
    )
    routes: Any = serve.deployment(
        serve.ingress()(Routes),
        name="routes",
        ray_actor_options=actor,
        max_ongoing_requests=settings.queue + _PROBES,
        **common,
    )
    handles = {
        name: replica.options(name=name).bind(name, one, settings.largest_batch) for name, one in promoted.items()
    }
    try:
        return serve.run(routes.bind(handles, plan), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise UserError(f"Ray Serve did not start the models: {_reason(error)}") from error


def _environment(threads: int) -> dict[str, str]:
    """What the replicas must know of this process's environment: no secrets, which Ray would show in its logs."""
    known = ray_launcher.environment(threads)
    return {name: value for name, value in known.items() if not name.startswith("PG") and "TOKEN" not in name}


def _reason(error: RuntimeError) -> str:
    """Why a replica could not be made, in the last line of its traceback; else the last of Ray's own error."""
    deployments = serve.status().applications[APPLICATION].deployments.values()
    lines = [line.strip() for deployment in deployments for line in deployment.message.splitlines()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or str(error).splitlines() or [type(error).__name__])[-1]
