"""Weight files of the engines: what they are, where they come from, whether they are whole."""
