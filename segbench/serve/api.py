"""The routes, over any service: `create` makes the application that uvicorn, or another server, runs."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

import segbench
from segbench.core.panoptic import PANOPTIC
from segbench.core.protocol import DRAWN
from segbench.data import segment_files
from segbench.serve import answers, problems, schema, uploads
from segbench.serve.access import Access
from segbench.serve.answers import Draw, Segmented
from segbench.serve.guard import Guard
from segbench.serve.jobs import Jobs
from segbench.serve.networks import Network
from segbench.serve.problems import Problem
from segbench.serve.service import Service

PICTURES: dict[str, Draw] = {
    "mask": answers.mask,
    "overlay": answers.overlay,
    "label-ids": answers.label_ids,
    "instance-ids": answers.instance_ids,
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "properties": {"image": _BINARY["schema"]}, "required": ["image"]}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BINARY),
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


def create(service: Service, access: Access, admin: bool = False) -> FastAPI:
    """The application. `admin`: models can be loaded anew. No page of its documentation is served: it would load its
    scripts from elsewhere."""
    app = FastAPI(
        title="segbench",
        version=segbench.__version__,
        description="Street photographs to class maps, by every promoted model.",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(_health(service))
    app.include_router(_models(service))
    app.include_router(_segmentation(service))
    app.include_router(_jobs(service.jobs))
    if admin:
        app.include_router(_admin(service))
    app.add_middleware(Guard, access=access, metrics=service.metrics)
    return app


def _health(service: Service) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/v2/health/live", include_in_schema=False)
    @router.get("/health/live", responses=schema.responses())
    async def live() -> dict[str, Any]:
        """The process answers."""
        return {"live": True}

    @router.get("/v2/health/ready", include_in_schema=False)
    @router.get("/health/ready", responses=schema.responses())
    async def ready() -> dict[str, Any]:
        """Photographs are taken: the models are warm, and the server is not stopping. Else 503."""
        if not service.networks or service.scheduler.draining:
            service.check()
        return {"ready": True}

    @router.get("/metrics", response_class=PlainTextResponse, responses=schema.responses())
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.CONTENT_TYPE)

    return router


def _models(service: Service) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", responses=schema.responses((200, schema.Models)))
    async def models() -> dict[str, Any]:
        """Every model that is served."""
        return {"models": [_card(network) for network in service.networks.values()], "legend": _legend(service)}

    @router.get("/v2/models/{model}", include_in_schema=False)
    async def metadata(model: str) -> dict[str, Any]:
        """A model in the words of the Open Inference Protocol."""
        network = _find(service, model)
        return {
            "name": network.name,
            "versions": [network.fingerprint],
            "platform": "pytorch",
            "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}],
            "outputs": [{"name": "categories", "datatype": "UINT8", "shape": [-1, -1]}],
        }

    return router


def _segmentation(service: Service) -> APIRouter:
    router = APIRouter(tags=["segmentation"])

    @router.post(
        "/v1/segment", openapi_extra=_UPLOAD, responses=schema.responses((200, schema.Report), (202, schema.Job))
    )
    async def segment(request: Request, model: Annotated[list[str] | None, Query()] = None) -> Response:
        """Each model's mask of the photograph, its shares of the classes, and where the models agree."""
        started = time.perf_counter()
        service.check()
        names = list(dict.fromkeys(model or service.networks))
        chosen = [_find(service, name) for name in names]

        def report(results: Sequence[Segmented], decode: float) -> bytes:
            return answers.report(results, read=read - started, decode=decode, total=time.perf_counter() - started)

        content = await service.uploads.photograph(request)
        read = time.perf_counter()
        return await _answer(service, request, content, chosen, answers.mask, report)

    def picture(name: str, draw: Draw) -> None:
        @router.post(
            f"/v1/models/{{model}}/{name}",
            name=name,
            openapi_extra=_UPLOAD,
            response_class=Response,
            responses=schema.responses((202, schema.Job), png=True),
        )
        async def one(request: Request, model: str) -> Response:
            service.check()
            network = _find(service, model)
            if draw is answers.instance_ids:
                _require_panoptic(network)
            content = await service.uploads.photograph(request)
            return await _answer(service, request, content, [network], draw, _only_picture)

        one.__doc__ = f"One model's {name.replace('-', ' ')} of the photograph, as PNG."

    for name, draw in PICTURES.items():
        picture(name, draw)
    return router


def _only_picture(results: Sequence[Segmented], decode: float) -> bytes:
    return results[0].picture


async def _answer(
    service: Service,
    request: Request,
    content: bytes,
    chosen: Sequence[Network],
    draw: Draw,
    answer: Callable[[Sequence[Segmented], float], bytes],
) -> Response:
    """Now, or as a job where the client prefers that."""
    deadline = asyncio.get_running_loop().time() + _seconds(request, service.settings.deadline)
    digest = await service.in_pool(_digest, content, chosen, request.url.path)
    if digest in request.headers.get("if-none-match", ""):  # RFC 9110 has 412 for what is no GET
        raise Problem(412, "you have this answer: the photograph and the models are the same")
    megapixels = await service.measure(content)

    async def work() -> Response:
        body = await service.segment(content, megapixels, chosen, deadline, draw, answer)
        kind = "application/json" if answer is not _only_picture else "image/png"
        return Response(body, headers={"etag": f'W/"{digest}"'}, media_type=kind)

    if "respond-async" in request.headers.get("prefer", ""):
        service.jobs.check()
        name = service.jobs.start(work())
        headers = {"location": f"/v1/jobs/{name}", "preference-applied": "respond-async", "retry-after": "1"}
        return JSONResponse({"job": name, "status": "running"}, 202, headers)
    return await uploads.unless_gone(request, work())


def _jobs(jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.get("/v1/jobs/{job}", responses=schema.responses((200, schema.Report), (202, schema.Job)))
    async def get(request: Request, job: str) -> Response:
        """The answer, as it would have been given at once; 202 while it is being made."""
        answer = jobs.get(job)
        if answer is None:
            return JSONResponse({"job": job, "status": "running"}, 202, {"retry-after": "1"})
        tag = answer.headers.get("etag")
        if tag and tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"etag": tag})
        return answer

    @router.delete("/v1/jobs/{job}", status_code=204, responses=schema.responses())
    async def delete(job: str) -> None:
        """Forgets the answer; one that is still being made costs nothing more."""
        jobs.delete(job)

    return router


def _admin(service: Service) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.post("/v1/models/reload", responses=schema.responses((200, schema.Models)))
    async def reload() -> dict[str, Any]:
        """Loads the promoted models anew; those in memory answer until the new ones are warm."""
        await service.load()
        return {"models": [_card(network) for network in service.networks.values()], "legend": _legend(service)}

    return router


def _find(service: Service, name: str) -> Network:
    if name not in service.networks:
        raise Problem(404, f"no model '{name}' is served; there are: {', '.join(service.networks)}")
    return service.networks[name]


def _require_panoptic(network: Network) -> None:
    if network.card.task != PANOPTIC:
        raise Problem(422, f"{network.name} is a semantic model: it does not tell objects apart; ask a panoptic one")
    segment_files.require_instance_ids(network.card.labels)


def _card(network: Network) -> dict[str, Any]:
    card = network.card
    return {
        "model": network.name,
        "study": card.study,
        "seed": card.seed,
        "architecture": card.architecture,
        "title": card.title,
        "protocol": card.protocol,
        "protocol_title": card.protocol_title,
        "drawn": card.drawn,
        "warning": DRAWN if card.drawn else None,
        "task": card.task,
        "pq": None if card.best.panoptic is None else card.best.panoptic.pq,
        "miou": card.best.miou,
        "miou_interval": network.interval,
        "miou_official": card.best.miou_official,
        "iou": dict(zip(card.categories, card.best.iou, strict=True)),
        "val_images": card.val_images,
        "size": {"width": card.size[1], "height": card.size[0]},
        "largest_batch": network.largest,
        "fingerprint": network.fingerprint,
        "legend": answers.legend(card.labels),
    }


def _legend(service: Service) -> list[dict[str, Any]]:
    """The first model's: all models', unless they were trained on several label sets."""
    return next((answers.legend(network.card.labels) for network in service.networks.values()), [])


def _digest(content: bytes, chosen: Sequence[Network], path: str) -> str:
    """Equal for equal photographs, models and routes: the answers are the same then, but for their timings."""
    digest = hashlib.sha256(content)
    digest.update("\n".join([path, *(network.fingerprint for network in chosen)]).encode())
    return digest.hexdigest()[:32]


def _seconds(request: Request, most: float) -> float:
    """What the client's X-Request-Timeout, in seconds, leaves of the server's deadline."""
    given = request.headers.get("x-request-timeout")
    if given is None:
        return most
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise Problem(400, f"X-Request-Timeout is '{given[:20]}': expected seconds, such as 5")
    return min(seconds, most)
