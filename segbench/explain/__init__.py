"""Why a promoted model decides as it does, measured by changing what it sees; nothing is trained.

Every measure asks a network through the `Segmenter` contract alone, so that a new architecture needs no line here.
`measures` lists them, each is one file, `running` stores their values beside the model's card, and the report reads
these.
"""
