"""Augmentation of whole batches on their device.

views = draw(augment, aspects, seed, epoch)      on the CPU, of all images of an epoch
seen = views.of(chosen, to_device)               of the images of one batch
images = recoloured(augment, images, seen, to_device)
images, raw = reframed(augment, images, raw, seen.frame, border)
instances = reframed_instances(augment, instances, seen.frame)

The view of an image in an epoch depends on (seed, epoch, image) alone, not on its batch, the architecture or the number
of processes, and a resumed epoch uses the same views. Which operations an image gets is decided on the CPU, so that the
device is never asked a question. Colours come first, those of the photograph, which is then put into its view by one
sampling. Of crops the view comes first, by one sampling of what it sees, and its colours are changed:
views = draw(augment, aspects, seed, epoch, crops)
images, planes, outside = cut(images, planes, fills, views.frame[chosen], crops.size, augment.border)
"""

from segbench.data.augmentation.colours import recoloured
from segbench.data.augmentation.crops import Crops, cut
from segbench.data.augmentation.geometry import reframed, reframed_instances
from segbench.data.augmentation.views import Views, draw

__all__ = ["Crops", "Views", "cut", "draw", "recoloured", "reframed", "reframed_instances"]
