"""Mask2Former: Swin backbone, deformable-attention pixel decoder, masked attention (Cheng et al., arXiv 2112.01527).

`size = "small"` is the note's model, transformers' port of Mask2Former-Swin-Small. `size = "tiny"` is the same design
with 1.1 M parameters, for small studies. The loss is ours (`segbench/matching.py`): transformers' own asks the host
once per image and decoder layer.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from segbench.architectures.parts import deformable, matching
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, read_state_dict
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError

PRETRAINED = "facebook/mask2former-swin-small-coco-panoptic"
_HEADS = ("class_predictor.", "criterion.")  # the only tensors whose shapes depend on the number of classes
_UNUSED = ("model.pixel_level_module.encoder.swin.layernorm.",)  # built but never called; older files lack it
_OTHER_SIZE = "Use weights of that size, or set size under [model] in mask2former.toml"
_SECONDS_TO_ANSWER = 5  # of the hub, before we say that it cannot be reached
_FAINTEST = 1e-6  # score of a class that no query claims at a pixel: bounds the negative log-likelihood

# What fixes the shapes and the meaning of the weights, by size: of Mask2FormerConfig, and of its backbone's SwinConfig.
_SIZES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    # configs/coco/panoptic-segmentation/swin/maskformer2_swin_small_bs16_50ep.yaml of facebookresearch/Mask2Former.
    # transformers counts the loss on the learnt queries as a decoder layer: 10 here are 9 layers and 10 predictions.
    "small": (
        {
            "feature_size": 256,
            "mask_feature_size": 256,
            "hidden_dim": 256,
            "encoder_feedforward_dim": 1024,
            "dim_feedforward": 2048,
            "encoder_layers": 6,
            "decoder_layers": 10,
            "num_attention_heads": 8,
            "num_queries": 100,
            "dropout": 0.0,
            "pre_norm": False,
        },
        {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24), "window_size": 7},
    ),
    "tiny": (
        {
            "feature_size": 64,
            "mask_feature_size": 64,
            "hidden_dim": 64,
            "encoder_feedforward_dim": 128,
            "dim_feedforward": 256,
            "encoder_layers": 2,
            "decoder_layers": 4,
            "num_attention_heads": 4,
            "num_queries": 20,
            "dropout": 0.0,
            "pre_norm": False,
        },
        # At 64×128 the stages see 16×32 … 2×4 positions, and a window of 7 would mostly hold padding.
        {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
    ),
}
_DROP_PATH = {"small": 0.3, "tiny": 0.0}  # stochastic depth: the published recipe's; none where so little could overfit


class Outputs(NamedTuple):
    """What every decoder layer predicts, first to last; after `for_inference` the last layer alone (L = 1)."""

    classes: Tensor  # (L, B, Q, C+1) logits; the last class is "no object"
    masks: Tensor  # (L, B, Q, H/4, W/4) logits


class Mask2Former(Segmenter):
    """transformers' network under our contract."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self._only_last = False
        network.model.transformer_module.decoder.register_forward_pre_hook(_contiguous, with_kwargs=True)
        for layer in network.model.pixel_level_module.decoder.encoder.layers:
            layer.self_attn.forward = partial(deformable.attend, layer.self_attn)

    def forward(self, images: Tensor) -> Outputs:
        """images: (B, 3, H, W), any H and W. Stays below transformers' own forward, which goes on to its own loss."""
        found = self.network.model(pixel_values=images, output_hidden_states=True, return_dict=True)
        wanted = slice(-1 if self._only_last else 0, None)
        states = torch.stack(found.transformer_decoder_intermediate_states[wanted])  # (L, Q, B, hidden)
        masks = torch.stack(found.masks_queries_logits[wanted])
        return Outputs(self.network.class_predictor(states.transpose(1, 2)), masks)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """Class, mask and dice terms of the set prediction loss, weighted 2, 5, 5 and summed over decoder layers."""
        classes, masks, dice = matching.loss(outputs.classes, outputs.masks, labels, self.is_sharded)
        return {"class": classes, "mask": masks, "dice": dice}

    def scores(self, outputs: Outputs) -> Tensor:
        """(B, C, h, w), 0..Q: class probability times mask, summed over queries (MaskFormer, arXiv 2107.06278, 3.4)."""
        classes = outputs.classes[-1].float().softmax(-1)[..., :-1]
        masks = outputs.masks[-1].float().sigmoid()
        # In channels_last memory, where resizing and argmax find a pixel's classes side by side.
        return torch.einsum("bqc,bqhw->bhwc", classes, masks).permute(0, 3, 1, 2)

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """log(s_c / Σ s): the scores are sums of probabilities, so their shares are the class distribution."""
        scores = scores.clamp(min=_FAINTEST)
        return scores.log() - scores.sum(1, keepdim=True).log()

    def train(self, mode: bool = True) -> Self:
        """As any module's, but keeps the pixel decoder's layers out of training mode.

        There they have nothing to do (no dropout) but ask the host, once a layer, whether float16 overflowed.
        """
        super().train(mode)
        for layer in self.network.model.pixel_level_module.decoder.encoder.layers:
            layer.training = False
        return self

    def for_inference(self) -> Self:
        """Also keeps the last layer's predictions alone."""
        self._only_last = True
        return self.eval()


def _contiguous(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The decoder's inputs, row by row in memory. transformers passes them transposed, and under autocast each of its
    nine projections then became a batched product that copied its weight once per position: a quarter of all the time.
    """
    for name in ("encoder_hidden_states", "multi_stage_positional_embeddings"):
        kwargs[name] = [stage.contiguous() for stage in kwargs[name]]
    return args, kwargs


def build(classes: int, weights: Weights, size: str = "small") -> Segmenter:
    """Published weights exist for "small". A file or folder must hold weights of `size`, for any number of classes."""
    if size not in _SIZES:
        raise UserError(f"mask2former has no size '{size}'; it has: small, tiny. Mend [model] in mask2former.toml")
    if weights.kind == "pretrained" and size != "small":
        raise UserError(f"there are no published weights for mask2former at size '{size}': {LOCAL_WAYS}")
    with _quiet(bars=weights.kind == "pretrained"):
        if weights.path is None:
            if weights.kind == "pretrained":
                return Mask2Former(_published(classes, size))
            return Mask2Former(_transformers().Mask2FormerForUniversalSegmentation(_config(classes, size)))
        if weights.kind == "folder":
            return Mask2Former(_from_folder(str(weights.path), classes, size))
        state = read_state_dict(weights.path)
        return Mask2Former(_load(str(weights.path), _config(classes, size), size, state))


def _config(classes: int, size: str) -> Any:
    network, backbone = _SIZES[size]
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = _transformers().SwinConfig(**backbone, drop_path_rate=_DROP_PATH[size], out_features=stages)
    return _transformers().Mask2FormerConfig(**network, backbone_config=swin, num_labels=classes)


def _published(classes: int, size: str) -> Any:
    """From the hub, or from its local cache where the hub does not answer at once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:  # transformers itself would try for half a minute
        get_hf_file_metadata(hf_hub_url(PRETRAINED, "config.json"), timeout=_SECONDS_TO_ANSWER)
    except Exception as silence:  # httpx's, ssl's and the hub's own errors share no narrower class
        try:
            return _from_folder(PRETRAINED, classes, size)
        except UserError:
            raise UserError(
                f"{PRETRAINED} is not in the local cache and cannot be downloaded ({_brief(silence)}): {LOCAL_WAYS}"
            ) from silence
    return _from_folder(PRETRAINED, classes, size, local=False)


def _from_folder(name: str, classes: int, size: str, local: bool = True) -> Any:
    """`name` is a save_pretrained folder or a name on the hub. Its config must be that of `size`, which alone is
    remembered of a model; what only training sees, such as stochastic depth, is the folder's.
    """
    try:
        config = _transformers().Mask2FormerConfig.from_pretrained(name, local_files_only=local, num_labels=classes)
    except Exception as error:  # as in _load
        raise UserError(f"{name} cannot be loaded ({_brief(error)}): {LOCAL_WAYS}") from error
    for part, wanted in zip((config, config.backbone_config), _SIZES[size], strict=True):
        for key, value in wanted.items():
            found = getattr(part, key, None)
            if (tuple(found) if isinstance(found, list) else found) != value:
                raise UserError(
                    f"{name} is no mask2former of size '{size}': its {key} is {found}, not {value}. {_OTHER_SIZE}"
                )
    return _load(name, config, size, local=local)


def _load(name: str, config: Any, size: str, state: Mapping[str, Tensor] | None = None, local: bool = True) -> Any:
    """transformers' loader, which also knows the tensor names of its older versions, made strict.

    Reads the folder or hub name `name`, or takes `state`. Raises UserError for what cannot be read or does not fit.
    """
    try:
        network, report = _transformers().Mask2FormerForUniversalSegmentation.from_pretrained(
            name if state is None else None,
            config=config,
            state_dict=state and dict(state),
            local_files_only=local,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # json's, safetensors', pickle's, the hub's and torch's errors share no narrower class
        raise UserError(f"{name} cannot be loaded ({_brief(error)}): {LOCAL_WAYS}") from error
    wrong = _unforgiven({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    extra = _unforgiven(report["unexpected_keys"])
    if wrong or extra:
        raise UserError(
            f"{name} does not fit mask2former of size '{size}': {len(wrong)} tensors missing or of another shape, "
            f"{len(extra)} unknown, such as '{(wrong or extra)[0]}'. {_OTHER_SIZE}"
        )
    return network


def _unforgiven(keys: Iterable[str]) -> list[str]:
    """What differs beyond the number of classes, and beyond what transformers computes itself or never uses."""
    return sorted(k for k in keys if not k.startswith(_HEADS + _UNUSED) and not k.endswith("relative_position_index"))


def _transformers() -> Any:
    """Imported here alone: it takes seconds, and needs torchvision. Untyped, as its annotations lag behind its code."""
    ensure_importable()
    return importlib.import_module("transformers")


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextmanager
def _quiet(bars: bool) -> Iterator[None]:
    """Holds back transformers' report of a new class head, which we asked for, and progress bars unless `bars`."""
    logging = _transformers().utils.logging
    verbosity, bars_before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars_before:
            logging.enable_progress_bar()
