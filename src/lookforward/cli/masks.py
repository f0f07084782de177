"""Write masks of the subject beside photos."""

from pathlib import Path

import tyro

from lookforward.cli.console import console, print_notes
from lookforward.config.reading import check_number

_MOST = 0.9  # of a photo, above which a mask leaves little out


def masks(
    photos: tyro.conf.Positional[Path],
    class_noun: str,
    model: str = "CIDAS/clipseg-rd64-refined",
    threshold: float = 0.5,
    replace: bool = False,
    device: str = "auto",
) -> None:
    """Write a mask beside each photo, dog.mask.png for dog.jpg, with a segmentation model.

    Training reads the masks that lie beside photos. Look at them first, and correct or delete those that are wrong.

    Args:
        photos: Folder of photos.
        class_noun: What to look for, such as dog.
        model: Folder or hub ID of a segmentation model of transformers: CLIPSeg, which takes any words, or one with a
            label that has the class noun in it.
        threshold: Probability from which a pixel belongs to the subject. Lower: larger masks.
        replace: Replace masks that are there already.
        device: cpu, cuda, mps, or auto for an accelerator if there is one.
    """
    from lookforward.assembly.auto_masks import load_segmenter, write_masks
    from lookforward.data.photos import load_photos
    from lookforward.models.load_pipeline import find_device

    check_number("threshold", threshold, "(0, 1)")
    loaded = load_photos(photos, 64, captions=False)
    find = load_segmenter(model, class_noun, threshold, find_device(device))
    written = 0
    for one in write_masks(loaded.photos, find, replace=replace):
        if one.file is None:
            console.print(f"{one.photo.path.name}: no mask is written, since {one.why}")
            continue
        written += 1
        console.print(f"{one.photo.path.name}: {one.file.name}, {one.share:.0%} of the photo")
        if one.share > _MOST:
            print_notes([f"{one.file.name} covers nearly all of the photo: look at it"])
    console.print(f"{written} masks in {photos}. Look at them before you train.")
