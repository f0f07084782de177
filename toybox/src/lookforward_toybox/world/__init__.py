"""The world that Toybox draws: subjects, scenes, light and captions, all from a seed.

`subject` says who is drawn, `shapes` and `animals` how each class looks, `markings` its pattern and emblem,
`scenes` the background; `picture` combines them and `captions` describes the result. Nothing here needs
more than numpy.
"""
