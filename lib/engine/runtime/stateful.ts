// Stateful programs change the caller's arrays in place: (state, numbers) -> (state', outputs), such as an optimizer's update of the
// weights. Knows no optimizer.
//
//   const program = await engine.stateful(({ w, g }, { rate }) => ({ w: tf.sub(w!, tf.mul(g!, rate!)) }), { state, numbers: ["rate"] });
//   await program.run({ rate: 0.1 });   // the new weights are in w's array

import { breathe } from "../../common/breathe.ts";
import { tf } from "../../common/tf.ts";
import type { Graph, KernelName, Node, Shape, Value } from "../graph.ts";
import { lower } from "../lower.ts";
import { trace } from "../trace.ts";
import { type Bound, bind, type Machine, Session } from "./session.ts";

/** The caller's array, or a view of a part of one, that a program reads and may write. */
export interface StateArray {
  readonly name: string;
  readonly shape: Shape;
  readonly data: Float32Array;
}

type Tensors = Record<string, tf.Tensor>;

/** Results with the name of a state array are its new values; the others are outputs. An array without a result is only read. */
export type StatefulBody = (state: Tensors, numbers: Tensors) => Tensors;

export interface StatefulOptions {
  state: readonly StateArray[];
  numbers: readonly string[]; // float32 scalars, given to each run
}

export interface StatefulProgram {
  /** One transition. The next run reuses the outputs' arrays. */
  run(numbers: Record<string, number>): Promise<Record<string, Float32Array>>;
  dispose(): Promise<void>;
}

const NEXT = "next.";

/**
 * Compiled: one graph over all arrays, bound to them once.
 * @throws Error if an array would be overwritten before the graph has read it for the last time
 */
export async function compileStateful(
  body: StatefulBody,
  { state, numbers }: StatefulOptions,
  machine: Machine,
): Promise<StatefulProgram> {
  const graph = trace((input) => {
    const arrays = Object.fromEntries(state.map(({ name, shape }) => [name, input(name, shape, "float32")]));
    const scalars = Object.fromEntries(numbers.map((name) => [name, input(name, [], "float32")]));
    const results = Object.entries(body(arrays, scalars));
    return Object.fromEntries(results.map(([name, tensor]) => [name in arrays ? NEXT + name : name, tensor]));
  });
  checkInPlace(graph);
  await breathe();
  const session = await Session.create(lower(graph), machine);
  const given = Object.fromEntries(numbers.map((name) => [name, new Float32Array(1)]));
  const outputs: Record<string, Float32Array> = {};
  const float32 = "float32" as const;
  const feeds = bind({
    ...Object.fromEntries(state.map(({ name, shape, data }) => [name, { data, shape, dtype: float32 }])),
    ...Object.fromEntries(numbers.map((name) => [name, { data: given[name]!, shape: [], dtype: float32 }])),
  });
  const arrays = new Map(state.map(({ name, data }) => [NEXT + name, data]));
  const results: Bound = bind(
    Object.fromEntries(
      [...graph.outputs].map(([name, { shape }]) => {
        const data = arrays.get(name) ?? new Float32Array(tf.util.sizeFromShape([...shape]));
        if (!arrays.has(name)) outputs[name] = data;
        return [name, { data, shape, dtype: float32 }];
      }),
    ),
  );
  return {
    async run(values) {
      for (const name of numbers) given[name]![0] = values[name]!;
      await session.run(feeds, results);
      return outputs;
    },
    dispose: () => session.dispose(),
  };
}

/** Eager: operation by operation, on the current tfjs backend. */
export function eagerStateful(body: StatefulBody, { state, numbers }: StatefulOptions): StatefulProgram {
  const arrays = new Map(state.map((array) => [array.name, array]));
  return {
    async run(values) {
      const results = tf.tidy(() =>
        body(
          Object.fromEntries(state.map(({ name, shape, data }) => [name, tf.tensor(data, [...shape])])),
          Object.fromEntries(numbers.map((name) => [name, tf.scalar(values[name]!)])),
        ),
      );
      const outputs: Record<string, Float32Array> = {};
      for (const [name, tensor] of Object.entries(results)) {
        const data = (await tensor.data()) as Float32Array;
        const array = arrays.get(name);
        if (array) array.data.set(data);
        else outputs[name] = data;
      }
      tf.dispose(results);
      return outputs;
    },
    dispose: async () => {},
  };
}

/** Elementwise kernels: they read an element of an input only for the corresponding element of the result. */
const ELEMENTWISE: ReadonlySet<KernelName> = new Set<KernelName>([
  "Add",
  "Sub",
  "Multiply",
  "RealDiv",
  "Maximum",
  "Minimum",
]);

/**
 * A result overwrites its array as soon as it is computed. That is correct only if nothing reads the array later: every kernel that reads
 * it must be an ancestor of the one that writes.
 */
export function checkInPlace(graph: Graph): void {
  const makers = new Map<Value, Node>();
  const readers = new Map<Value, Node[]>();
  for (const node of graph.nodes) {
    for (const value of node.outputs) makers.set(value, node);
    for (const value of node.inputs) readers.set(value, [...(readers.get(value) ?? []), node]);
  }
  /** Reshaping copies nothing: reading the view reads the array. */
  const readersOf = (value: Value): Node[] =>
    (readers.get(value) ?? []).flatMap((node) => (node.kernel === "Reshape" ? readersOf(node.outputs[0]!) : [node]));

  for (const [name, state] of graph.inputs) {
    const next = graph.outputs.get(NEXT + name);
    if (!next) continue;
    const writer = makers.get(next);
    const before = new Set<Node>();
    const waiting = writer ? [writer] : [];
    for (let node = waiting.pop(); node; node = waiting.pop()) {
      for (const value of node.inputs) {
        const maker = makers.get(value);
        if (!maker || before.has(maker)) continue;
        before.add(maker);
        waiting.push(maker);
      }
    }
    const inPlace = (node: Node) => node === writer && ELEMENTWISE.has(node.kernel);
    if (writer && readersOf(state).every((node) => before.has(node) || inPlace(node))) continue;
    throw new Error(
      `${name} is updated in place, but something else still reads it when its new numbers are known: compute them from ` +
        "what the other result is computed from, so that all that reads it comes first",
    );
  }
}
