"""The names of the files that training leaves. `paths` names the folders they lie in.

<storage>/models/<study>/seed<k>/     card.json, best.safetensors, last.safetensors, confusions.npz, errors.npz,
                                      confusions-original.npz,
                                      reliability.npz, masks/<scene>.png, entropy/<scene>.png,
                                      explained.json
<storage>/models/<study>/fractions/<images>-seed<k>/  fraction.json, confusions.npz
<storage>/trials/<study>/trial<i>/    confusions.npz, of the best trial also best.safetensors
"""

CARD = "card.json"  # what a promoted model is (records.ModelCard); written last
WEIGHTS = "best.safetensors"  # of the kept epoch
LAST_WEIGHTS = "last.safetensors"  # of the last epoch
CONFUSIONS = "confusions.npz"  # the raw confusion of each validation image, and the scenes' names
ORIGINAL = "confusions-original.npz"  # the same at the photographs' own sizes, if [final] score_at asks for it
SEGMENTS = "segments"  # a folder, of panoptic protocols: <scene>.png holds the predicted segments, in COCO's format
MASKS = "masks"  # a folder: <scene>.png holds the predicted categories, in the legend's colours
ERRORS = "errors.npz"  # the kinds of errors of each validation image (stats.behaviour), the model's and its grid's
RELIABILITY = "reliability.npz"  # how sure the model was of its right and wrong pixels (stats.calibration)
ENTROPY = "entropy"  # a folder: <scene>.png holds each pixel's entropy, 0 (sure) … 255 (any category)
LEARNING_CURVE = "learning-curve.png"
FRACTION = "fraction.json"  # what a training on a fraction of the images was
EXPLANATIONS = "explained.json"  # of a promoted model: what `explain` measured, image by image
