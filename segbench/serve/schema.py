"""The shapes of the answers, for /openapi.json; `answers` and `api` make them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Size(_Shape):
    width: int
    height: int


class Category(_Shape):
    category: int = Field(description="its value in a mask")
    name: str
    colour: str = Field(description="#rrggbb")
    id: int = Field(description="what stands for it in a label-id PNG")
    french: str
    about: str = Field(description="what it covers; perhaps empty")
    about_french: str


class ModelMilliseconds(_Shape):
    queue: float
    forward: float = Field(description="of the whole batch")
    encode: float = Field(description="from scores to class map to PNG")


class Milliseconds(_Shape):
    read: float = Field(description="until the whole photograph had arrived")
    decode: float
    total: float


class Segment(_Shape):
    number: int = Field(description="its value in the map: 1, 2, …")
    category: int
    thing: bool = Field(description="an object; else all of a class of stuff")
    share: float = Field(description="of the photograph's pixels")


class Panoptic(_Shape):
    map: str = Field(
        description="base64 of a 16-bit PNG as large as the photograph; its values are numbers of segments, 0 where "
        "there is none. It is as sharp as what the network saw"
    )
    segments: list[Segment]
    counts: dict[str, int] = Field(description="objects, by the name of each category of things")


class ModelAnswer(_Shape):
    model: str
    study: str
    seed: int
    architecture: str
    title: str
    drawn: bool = Field(description="trained on drawn streets: no Cityscapes result")
    legend: list[Category] = Field(description="of its mask: models may have been trained on several label sets")
    mask: str = Field(description="base64 of a palette PNG as large as the photograph; its values are categories")
    shares: dict[str, float] = Field(description="of the photograph's pixels, by the category's name")
    panoptic: Panoptic | None = Field(description="of models of a panoptic protocol")
    batch: int = Field(description="photographs that shared the forward pass")
    milliseconds: ModelMilliseconds


class Agreement(_Shape):
    share: float = Field(description="of the pixels on which all models agree")
    map: str = Field(description="base64 of a black and white PNG; white: they agree")


class Report(_Shape):
    image: Size
    models: list[ModelAnswer]
    legend: list[Category] = Field(description="the first model's")
    agreement: Agreement | None = Field(description="null for one model, and where their legends differ")
    milliseconds: Milliseconds


class Card(_Shape):
    model: str = Field(description="what the other routes call it")
    study: str
    seed: int
    architecture: str
    title: str
    protocol: str
    protocol_title: str
    drawn: bool
    warning: str | None
    task: str = Field(description="semantic, or panoptic: it tells objects apart")
    pq: float | None = Field(description="panoptic quality; null for a semantic model, and where it is undefined")
    miou: float
    miou_interval: tuple[float, float] | None = Field(description="95 %, over the validation images; null: unknown")
    miou_official: float
    iou: dict[str, float | None]
    val_images: int
    size: Size = Field(description="at which the network sees a photograph")
    largest_batch: int
    fingerprint: str
    legend: list[Category]


class Models(_Shape):
    models: list[Card]
    legend: list[Category] = Field(description="the first model's")


class Job(_Shape):
    job: str
    status: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


def responses(*shapes: tuple[int, Any], png: bool = False) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of a route: its good answers, and problems for all others."""
    problem = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    bad = {"description": "What was found, what was expected, and how to fix it", "content": problem}
    good: dict[int | str, dict[str, Any]] = {status: {"model": shape} for status, shape in shapes}
    if png:
        good[200] = {"description": "PNG", "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
    return {**good, 422: bad, "default": bad}
