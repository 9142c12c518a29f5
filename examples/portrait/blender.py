"""Blender's modules. ``bpy`` comes first: the others come with it, and only once it is loaded."""

# isort: off
import bpy as bpy
import bmesh as bmesh
from mathutils import Vector as Vector
from mathutils.bvhtree import BVHTree as BVHTree
from mathutils.kdtree import KDTree as KDTree
# isort: on
