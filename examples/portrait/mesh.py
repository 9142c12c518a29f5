"""MakeHuman's base mesh in the shape of a person, and Blender objects of its parts."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import bmesh, bpy

METRE = 0.1  # the base mesh is in decimetres, y up, face towards +z

Keep = Callable[[str, NDArray[np.float64]], bool]
"""Whether a face belongs to an object, by its group and its centre in decimetres."""


class Mesh:
    """The base mesh (Wavefront OBJ) with its targets applied; the height of the eyes is 0."""

    def __init__(self, folder: Path, targets: Mapping[str, float]) -> None:
        self._folder = folder
        self._units: dict[str, NDArray[np.float64]] = {}
        self._made: list[tuple[Any, list[int]]] = []
        self._faces: list[list[int]] = []
        self._face_uvs: list[list[int]] = []
        self._groups: list[str] = []
        vertices, self._uvs = self._read(folder / "3dobjs" / "base.obj")
        self.base = np.array(vertices)
        """Its vertices ``(n, 3)`` without targets, decimetres."""
        self._v = self.base.copy()
        self._size = np.ones((len(vertices), 1))
        for name, weight in targets.items():
            self._v += weight * self._target(name)
        middle = (self._centre("helper-l-eye") + self._centre("helper-r-eye")) / 2
        self._v -= [middle[0], middle[1], 0]

    def _read(self, path: Path) -> tuple[list[list[float]], list[list[float]]]:
        vertices: list[list[float]] = []
        uvs: list[list[float]] = []
        group = ""
        for line in path.read_text().splitlines():
            match line.split():
                case ["v", *values]:
                    vertices.append([float(v) for v in values[:3]])
                case ["vt", *values]:
                    uvs.append([float(v) for v in values[:2]])
                case ["g", group, *_]:
                    pass
                case ["f", *corners]:
                    pairs = [corner.split("/") for corner in corners]
                    self._faces.append([int(pair[0]) - 1 for pair in pairs])
                    self._face_uvs.append([int(pair[1]) - 1 for pair in pairs])
                    self._groups.append(group)
        return vertices, uvs

    def _target(self, name: str) -> NDArray[np.float64]:
        """How a target moves each vertex."""
        path = _target(self._folder, name)
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        moved = np.zeros_like(self.base)
        for line in text.decode().splitlines():
            parts = line.split()
            if len(parts) == 4 and not line.startswith("#"):
                moved[int(parts[0])] = [float(p) for p in parts[1:]]
        return moved

    def unit(self, name: str) -> NDArray[np.float64]:
        """How a face unit moves each vertex ``(n, 3)`` of the base mesh, decimetres."""
        if name not in self._units:
            self._units[name] = self._target(f"faceunits/{name}")
        return self._units[name]

    def posed(self, units: Mapping[str, float]) -> NDArray[np.float64]:
        """Every vertex ``(n, 3)`` with these face units on top of the person's own look, decimetres."""
        moved = self._v.copy()
        for name, weight in units.items():
            if weight:
                moved += weight * self.unit(name) * self._size
        return moved

    def show(self, vertices: NDArray[np.float64]) -> None:
        """Put what has been made of this mesh where these vertices are."""
        for thing, used in self._made:
            points = _metres(vertices[used]).astype(np.float32)
            thing.data.vertices.foreach_set("co", points.ravel())
            thing.data.update()

    def _centre(self, group: str) -> NDArray[np.float64]:
        faces = [f for f, g in zip(self._faces, self._groups, strict=True) if g == group]
        centre: NDArray[np.float64] = self._v[sorted({i for face in faces for i in face})].mean(0)
        return centre

    def swell(self, group: str, by: float, reach: float) -> None:
        """Magnify what lies within ``reach`` (metres) of this group's centre ``1 + by`` times: larger eyes."""
        away = self._v - self._centre(group)
        near = 1 / (1 + (np.linalg.norm(away * [1, 1, 0.5], axis=1) / (reach / METRE)) ** 4)
        self._v += by * near[:, None] * away
        self._size *= 1 + by * near[:, None]

    def object(self, name: str, keep: Keep, level: int = 2, alive: bool = True) -> Any:
        """A Blender object of the faces that are kept, ``level`` times subdivided; :meth:`show` moves live ones."""
        chosen = [i for i, f in enumerate(self._faces) if keep(self._groups[i], self._v[f].mean(0))]
        used = sorted({v for i in chosen for v in self._faces[i]})
        index = {v: k for k, v in enumerate(used)}
        points = _metres(self._v[used])
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(points.tolist(), [], [[index[v] for v in self._faces[i]] for i in chosen])
        layer = mesh.uv_layers.new(name="UV")
        layer.data.foreach_set("uv", [c for i in chosen for t in self._face_uvs[i] for c in self._uvs[t]])
        rest = mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT")
        rest.data.foreach_set("vector", points.astype(np.float32).ravel())
        mesh.polygons.foreach_set("use_smooth", [True] * len(chosen))
        mesh.update()
        thing = placed(name, mesh)
        if alive:
            self._made.append((thing, used))
        modifier = thing.modifiers.new("smooth", "SUBSURF")
        modifier.levels = modifier.render_levels = level
        return thing


def _metres(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the base mesh's axes to Blender's."""
    points: NDArray[np.float64] = vertices[:, [0, 2, 1]] * [METRE, -METRE, METRE]
    return points


def _target(folder: Path, name: str) -> Path:
    """``faceunits/...`` are ARKit's blend shapes, which lie beside the base mesh's own targets."""
    if name.startswith("faceunits/"):
        return folder.parent / "faceunits01" / "targets" / f"{name}.target"
    return folder / "targets" / f"{name}.target.gz"


def placed(name: str, data: Any) -> Any:
    """A new object of this data, in the scene."""
    thing = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(thing)
    return thing


def cut(
    thing: Any,
    point: tuple[float, float, float],
    normal: tuple[float, float, float],
    offset: float,
) -> NDArray[np.float64]:
    """Only what lies below a plane stays, ``offset`` metres off the skin: a shirt.

    Returns its neckline ``(n, 3)``, in order.
    """
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(thing.evaluated_get(graph))
    thing.modifiers.clear()
    thing.data = mesh
    work = bmesh.new()
    work.from_mesh(mesh)
    parts = work.verts[:] + work.edges[:] + work.faces[:]
    bmesh.ops.bisect_plane(work, geom=parts, plane_co=point, plane_no=normal, clear_outer=True)
    work.normal_update()
    for vertex in work.verts:
        vertex.co += vertex.normal * offset
    edge = np.array([tuple(v.co) for v in work.verts if v.is_boundary and v.co.z > point[2] - 0.08])
    work.to_mesh(mesh)
    work.free()
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    away = edge - edge.mean(0)
    ordered: NDArray[np.float64] = edge[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]
    return ordered
