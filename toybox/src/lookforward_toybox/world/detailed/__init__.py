"""The second edition's picture, 128 pixels: materials, light of the scene, cast shadows and larger emblems.

Subjects, scenes and views are the first edition's. `painter` shades the parts, `materials` gives them their texture,
`light` says how each scene is lit, `shadow` casts the subject's outline on the ground, `picture` puts it together.
"""

from lookforward_toybox.world.detailed.picture import draw_detailed, drawing_detailed

__all__ = ["draw_detailed", "drawing_detailed"]
