"""What a user would write instead of segbench: the note's pipeline and the libraries' recipes.

(a) the note's pipeline: PIL decodes and resizes each item in each epoch, float32, the model code printed in the note,
    and Hugging Face's image processor for Mask2Former;
(b) torchvision's reference style for DeepLab: the same dataset with DataLoader workers, float32, channels first;
(c) Hugging Face's Mask2Former forward with mask and class labels, with DataLoader workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.core.labels import DEFAULT
from segbench.data import scenes

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
TO_CATEGORY = np.array(DEFAULT.class_of_raw, np.uint8)
CLASSES = len(DEFAULT.names)


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Decodes, resizes, remaps and normalises one pair at a time, as the note does."""

    def __init__(self, root: Path, split: str, size: tuple[int, int], number: int | None = None) -> None:
        self.scenes = scenes.find(root, split)[0][:number]
        self.width_height = size[::-1]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        scene = self.scenes[index]
        assert isinstance(scene.image, Path)  # not in an archive
        assert isinstance(scene.labels, Path)
        image = Image.open(scene.image).convert("RGB").resize(self.width_height, Image.Resampling.BILINEAR)
        ids = Image.open(scene.labels).resize(self.width_height, Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        pixels = (pixels - MEAN[:, None, None]) / STD[:, None, None]
        return pixels, torch.from_numpy(TO_CATEGORY[np.array(ids)]).long()


def loader(data: Photographs, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(data, batch_size, shuffle=True, num_workers=workers, drop_last=True)


def deeplab() -> nn.Module:
    """The note's build_model, without its download."""
    ensure_importable()
    from torchvision.models.segmentation import deeplabv3_resnet50

    model: nn.Module = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    return model


def deeplab_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    outputs = model(images)
    loss = F.cross_entropy(outputs["out"], labels) + 0.5 * F.cross_entropy(outputs["aux"], labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()  # what a training log prints


def mask2former() -> Any:
    """The note's model, without its download: the same configuration from random weights."""
    ensure_importable()
    from transformers import Mask2FormerForUniversalSegmentation

    from segbench.architectures.mask2former import config

    model: nn.Module = Mask2FormerForUniversalSegmentation(config(CLASSES, "small"))
    return model


def mask2former_labels(labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """mask_labels and class_labels as the image processor makes them: one binary mask per class present."""
    present = [torch.unique(one) for one in labels]
    masks = [(one[None] == classes[:, None, None]).float() for one, classes in zip(labels, present, strict=True)]
    return masks, present


def mask2former_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    masks, classes = mask2former_labels(labels)
    loss = model(pixel_values=images, mask_labels=masks, class_labels=classes).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()


def predict(name: str, model: nn.Module, images: Tensor) -> Tensor:
    """The note's masks, (B, H, W): argmax of DeepLab's scores, the image processor's word for Mask2Former."""
    if name == "deeplab":
        best: Tensor = model(images)["out"].argmax(1)
        return best
    from transformers import Mask2FormerImageProcessor

    processor = Mask2FormerImageProcessor(do_resize=False, do_rescale=False, do_normalize=False)
    sizes = [(images.shape[-2], images.shape[-1])] * len(images)
    maps: Any = processor.post_process_semantic_segmentation(model(pixel_values=images), target_sizes=sizes)
    return torch.stack(maps)


def confusion(predicted: Tensor, labels: Tensor) -> np.ndarray:
    """Image by image in NumPy, as most scripts do."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for one, truth in zip(predicted.numpy(), labels.numpy(), strict=True):
        for actual in range(CLASSES):
            for guess in range(CLASSES):
                total[actual, guess] += int(((truth == actual) & (one == guess)).sum())
    return total
