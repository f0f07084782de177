"""The world that Toybox draws: subjects, scenes, light and captions, all from a seed.

`subject` says who is drawn, `shapes` and `animals` how each class looks, `markings` its pattern and emblem,
`scenes` where it stands; `picture` puts them together and `captions` says it in words. Nothing here needs
more than numpy.
"""
