"""A little shorthand for Blender's shader graphs."""

from __future__ import annotations

from typing import Any

from examples.portrait.blender import bpy

Value = Any
"""A socket of another node, a number, a vector or a colour."""


class Nodes:
    """The graph of one new material."""

    def __init__(self, name: str) -> None:
        self._material = bpy.data.materials.new(name)
        self._material.use_nodes = True
        self._tree = self._material.node_tree
        self._tree.nodes.clear()
        self._out = self._tree.nodes.new("ShaderNodeOutputMaterial")

    def new(self, kind: str, *inputs: Value, **values: Value) -> Any:
        """A node. ``inputs``: of its first sockets; ``values``: attributes, or sockets by name."""
        node = self._tree.nodes.new("ShaderNode" + kind)
        for key, value in values.items():
            if hasattr(node, key):
                setattr(node, key, value)
            else:
                self._put(node.inputs[key.replace("_", " ")], value)
        for socket, value in zip(node.inputs, inputs, strict=False):
            self._put(socket, value)
        return node

    def mix(self, factor: Value, a: Value, b: Value) -> Any:
        """Colour ``a``, with ``factor`` parts of ``b``."""
        node = self.new("Mix", factor, data_type="RGBA")
        self._put(node.inputs[6], a)
        self._put(node.inputs[7], b)
        return node.outputs[2]

    def math(self, operation: str, a: Value, b: Value = 0.0, c: Value = 0.0) -> Any:
        """A number out of one, two or three."""
        return self.new("Math", a, b, c, operation=operation).outputs[0]

    def add(self, a: Value, b: Value) -> Any:
        return self.math("ADD", a, b)

    def subtract(self, a: Value, b: Value) -> Any:
        return self.math("SUBTRACT", a, b)

    def multiply(self, a: Value, b: Value) -> Any:
        return self.math("MULTIPLY", a, b)

    def divide(self, a: Value, b: Value) -> Any:
        return self.math("DIVIDE", a, b)

    def bell(self, square: Value) -> Any:
        """``exp(-square)``"""
        return self.math("EXPONENT", self.multiply(square, -1.0))

    def smoothstep(self, value: Value, low: float, high: float, **values: Value) -> Any:
        """0 up to ``low``, 1 from ``high`` on, or ``To_Min`` and ``To_Max``."""
        kind = {"interpolation_type": "SMOOTHSTEP"}
        return self.new("MapRange", value, **kind, From_Min=low, From_Max=high, **values).outputs[0]

    def finish(self, kind: str, **values: Value) -> Any:
        """The material, with this shader."""
        self._tree.links.new(self.new(kind, **values).outputs[0], self._out.inputs["Surface"])
        return self._material

    def _put(self, socket: Any, value: Value) -> None:
        if isinstance(value, bpy.types.NodeSocket):
            self._tree.links.new(value, socket)
        else:
            socket.default_value = (*value, 1) if socket.type == "RGBA" and len(value) == 3 else value
