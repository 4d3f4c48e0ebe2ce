"""Made-up projects, each with something in it that could harm what reads it.

`planting` makes one from a seed, always the same; what is planted stands in `names`, `texts` and `places`. `watching`
measures how long a reader held up others.
"""
