// The recorded program as a data structure: printing, pruning.

import assert from "node:assert/strict";
import test from "node:test";

import { Graph } from "../../../lib/engine/graph.ts";

test("prints inputs, constants, kernels with attributes, several results, outputs", () => {
  const graph = new Graph();
  const x = graph.input("x", [2, 4], "float32");
  const ids = graph.input("ids", [2], "int32");
  const keep = graph.constant(Uint8Array.of(1, 0), [2], "bool");
  const parts = [graph.value([2, 1], "float32"), graph.value([2, 3], "float32")];
  graph.nodes.push({ kernel: "SplitV", attrs: { axis: 1, sizes: [1, 3] }, inputs: [x], outputs: parts });
  graph.outputs.set("first", parts[0]!);
  graph.outputs.set("ids", ids);
  graph.outputs.set("keep", keep);
  assert.equal(
    String(graph),
    [
      "%0 f32[2,4] = input x",
      "%1 i32[2] = input ids",
      "%2 bool[2] = constant 1 0",
      '%3 f32[2,1], %4 f32[2,3] = SplitV %0 {"axis":1,"sizes":[1,3]}',
      "return first=%3 ids=%1 keep=%2",
    ].join("\n"),
  );
});

test("prune keeps chains, all results of a needed kernel and every input; it drops the rest", () => {
  const graph = new Graph();
  const x = graph.input("x", [2], "float32");
  graph.input("unused", [2], "float32"); // a program is still fed it
  const used = graph.constant(Float32Array.of(1), [], "float32");
  const unused = graph.constant(Float32Array.of(2), [], "float32");
  const emit = (kernel: "Add" | "Neg", ...inputs: (typeof x)[]) => {
    const output = graph.value([2], "float32");
    graph.nodes.push({ kernel, attrs: {}, inputs, outputs: [output] });
    return output;
  };
  const a = emit("Add", x, used);
  const dead = emit("Add", a, unused);
  emit("Neg", dead);
  const halves = [graph.value([1], "float32"), graph.value([1], "float32")];
  graph.nodes.push({ kernel: "SplitV", attrs: { axis: 0, sizes: [1, 1] }, inputs: [a], outputs: halves });
  graph.outputs.set("y", halves[1]!);
  graph.prune();
  assert.deepEqual(
    graph.nodes.map(({ kernel, outputs }) => [kernel, outputs.length]),
    [
      ["Add", 1],
      ["SplitV", 2],
    ],
  );
  assert.deepEqual([...graph.constants.keys()], [used]);
  assert.deepEqual([...graph.inputs.keys()], ["x", "unused"]);
});

test("an input's name is taken once, and shapes are copied", () => {
  const graph = new Graph();
  const shape = [2, 3];
  const x = graph.input("x", shape, "float32");
  shape[0] = 7;
  assert.deepEqual(x.shape, [2, 3]);
  assert.throws(() => graph.input("x", [1], "float32"), /internal: two graph inputs are called x/);
});
