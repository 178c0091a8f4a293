"""Images of a data set of Hugging Face, as files of the user's own."""

from pathlib import Path
from typing import Any

from reading.datasets import load
from reading.folders import Found
from unroll.errors import UserError
from unroll.files import locked, replacing
from unroll.training.cache import cache_folder

IMAGE, LABEL = "image", "label"
NO_CLASS, NO_IMAGE = "as they have no class", "as the data set has no image there"


def images_of_dataset(path: str, split: str, cache: str | Path | None = None) -> Found:
    """The images in the column `image` and their classes in the column `label`. Images that are in the data set itself
    are written into files once, in the cache.

    Args:
        path, split: as for `reading.datasets.load`.
        cache: as for `vision.data.files.decode`.

    Raises:
        UserError: the data set can't be read, or has no such columns, or one class alone.
    """
    dataset = load(path, split)
    images, labels = (dataset.features.get(name) for name in (IMAGE, LABEL))
    if not hasattr(images, "decode_example") or labels is None:
        named = ", ".join(dataset.column_names)
        raise UserError(f"{path}: needs a column {IMAGE} with images and a column {LABEL} (rename_column); has {named}")
    folder = cache_folder(cache) / "datasets" / dataset._fingerprint
    found = Found([], [], {NO_CLASS: [], NO_IMAGE: []})
    with locked(folder.with_suffix(".lock")):
        folder.mkdir(exist_ok=True)
        for row, values in enumerate(dataset.cast_column(IMAGE, type(images)(decode=False))):
            image, label = values[IMAGE], values[LABEL]
            file = as_file(image, folder / str(row)) if image else None
            if file is None:
                found.left_out[NO_IMAGE].append(Path(f"{path}, row {row}"))
            elif label is None or (hasattr(labels, "int2str") and label < 0):
                found.left_out[NO_CLASS].append(Path(f"{path}, row {row}"))
            else:
                found.files.append(file)
                found.labels.append(labels.int2str(label) if hasattr(labels, "int2str") else str(label))
    if len(set(found.labels)) < 2:
        raise UserError(f"{path}: must have images of two classes at least ({found.note()})")
    return found


def as_file(image: dict[str, Any], file: Path) -> Path | None:
    """The file of an image, which is written if its bytes are in the data set; None if there is no image."""
    content, path = image["bytes"], image["path"]
    if content is None:
        return Path(path) if path is not None and Path(path).is_file() else None
    if not file.exists():
        with replacing(file) as unfinished:
            unfinished.write_bytes(content)
    return file
