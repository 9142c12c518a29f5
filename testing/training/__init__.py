"""How the sound → mouth network is made: corpus, training, evaluation. Nothing here runs in production."""
