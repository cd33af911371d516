// Every kernel that the engine can record, compiled against tfjs' own CPU backend: values and, where tfjs has one,
// gradients, on several shapes. The last test fails if a kernel has no case.

import assert from "node:assert/strict";
import { test as nodeTest } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { kernelNames } from "../../../lib/engine/lower.ts";
import { once } from "../../scripts.ts";
import {
  type Argument,
  assertSameEvaluation,
  compiled,
  eager,
  evaluate,
  floats,
  ints,
  type Operation,
} from "../../support.ts";

const seen = new Set<string>();
const bodies: (() => Promise<void>)[] = [];

/** A test that the last one runs too, if it has not run yet. */
function test(name: string, body: () => Promise<void>): void {
  const run = once(body);
  bodies.push(run);
  nodeTest(name, run);
}

interface Options {
  gradients?: boolean;
  atol?: number;
}

/** Both engines are single precision and sum in their own order: a few units in the last place of sums of some tens of
 * numbers around 1. */
const TOLERANCE = 2e-5;

async function check(label: string, operation: Operation, args: Argument[], options: Options = {}): Promise<void> {
  const { gradients = true, atol = TOLERANCE } = options;
  const expected = await evaluate(eager, operation, args, { gradients });
  const actual = await evaluate(compiled, operation, args, { gradients });
  const shapes = args.map(({ shape }) => `[${shape}]`).join(" ");
  assertSameEvaluation(actual, expected, { atol, rtol: TOLERANCE, label: `${label} ${shapes}` });
  assert.deepEqual(actual.types, expected.types, `${label} ${shapes}: result type`);
  for (const kernel of actual.kernels) seen.add(kernel);
}

/** The kernel itself where the backend has it: for the few that tfjs' own functions never call. */
function kernel(name: string, inputs: tf.NamedTensorMap, attrs: tf.NamedAttrMap, plain: () => tf.Tensor): tf.Tensor {
  return tf.getBackend() === "trace" ? tf.engine().runKernel<tf.Tensor>(name, inputs, attrs) : plain();
}

const SHAPES = [[], [1], [7], [3, 5], [1, 4], [2, 3, 4], [2, 1, 3, 2]];

/** "2x3 [] 4" -> [[2, 3], [], [4]] */
const shapesIn = (text: string) => text.split(" ").map((shape) => (shape === "[]" ? [] : shape.split("x").map(Number)));
const pairsIn = (...texts: string[]) => texts.map((text) => shapesIn(text) as [number[], number[]]);

const PAIRS = pairsIn("3 3", "2x3 2x3", "2x3 3", "3 2x3", "2x1x4 3x1", "2x3x4 1", "[] 2x2", "1x1 1", "2x3x4x5 4x1");

type Unary = (x: tf.Tensor) => tf.Tensor;
const UNARY: Record<string, [run: Unary, low?: number, high?: number]> = {
  abs: [tf.abs],
  ceil: [tf.ceil],
  cos: [tf.cos],
  elu: [tf.elu],
  erf: [tf.erf],
  exp: [tf.exp],
  floor: [tf.floor],
  log: [tf.log, 0.2, 3],
  log1p: [tf.log1p, -0.7, 3],
  neg: [tf.neg],
  reciprocal: [tf.reciprocal, 0.3, 3],
  relu: [tf.relu],
  round: [tf.round],
  rsqrt: [tf.rsqrt, 0.3, 3],
  sigmoid: [tf.sigmoid],
  sign: [tf.sign],
  sin: [tf.sin],
  softplus: [tf.softplus],
  sqrt: [tf.sqrt, 0.3, 3],
  square: [tf.square],
  tanh: [tf.tanh],
  "leakyRelu 0.3": [(x) => tf.leakyRelu(x, 0.3)],
  "step 0.25": [(x) => tf.step(x, 0.25)],
  "clipByValue -0.5 1": [(x) => tf.clipByValue(x, -0.5, 1)],
  "to int32": [(x) => tf.cast(tf.cast(x, "int32"), "float32"), 0, 5],
  "to bool": [(x) => tf.cast(tf.cast(tf.relu(x), "bool"), "float32")],
};
for (const [name, [run, low = -2, high = 2]] of Object.entries(UNARY)) {
  test(name, async () => {
    for (const shape of SHAPES) await check(name, ([x]) => run(x), [floats(name, shape, low, high)]);
  });
}

test("numbers on the edge: halves, zeros, infinities", async () => {
  const data = Float32Array.of(-2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 3.5, Number.POSITIVE_INFINITY, -1e30);
  const args = [{ shape: [data.length], data }];
  const runs = { round: tf.round, sign: tf.sign, relu: tf.relu, step: tf.step, floor: tf.floor, tanh: tf.tanh };
  for (const [name, run] of Object.entries(runs)) await check(name, ([x]) => run(x), args, { gradients: false });
});

test("softmax, logSoftmax", async () => {
  for (const shape of [[1], [7], [3, 5], [2, 3, 4], [4, 1], [2, 1, 3, 6]]) {
    await check("softmax", ([x]) => tf.softmax(x), [floats("softmax", shape)]);
    await check("logSoftmax", ([x]) => tf.logSoftmax(x), [floats("softmax", shape)]);
    const direct: Operation = ([logits]) => kernel("LogSoftmax", { logits }, { axis: -1 }, () => tf.logSoftmax(logits));
    await check("LogSoftmax", direct, [floats("softmax", shape)], { gradients: false });
  }
});

test("cumsum", async () => {
  for (const [exclusive, reverse] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ] as const) {
    for (const axis of [0, 1, 2]) {
      // tfjs' CPU backend fails at -1
      const label = `cumsum ${axis} ${exclusive} ${reverse}`;
      const gradients = axis === 2; // elsewhere tfjs makes a gradient of the wrong shape, and refuses it
      const args = [floats("cumsum", [2, 3, 4])];
      await check(label, ([x]) => tf.cumsum(x, axis, exclusive, reverse), args, { gradients });
    }
  }
});

type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;
const BINARY: Record<string, [run: Binary, low?: number, high?: number]> = {
  add: [tf.add],
  sub: [tf.sub],
  mul: [tf.mul],
  div: [tf.div, 0.3, 3],
  maximum: [tf.maximum],
  minimum: [tf.minimum],
  pow: [tf.pow, 0.3, 2],
  squaredDifference: [tf.squaredDifference],
};
/** tfjs' gradients of these don't sum over broadcast axes, so it refuses them. */
const NO_BROADCAST_GRADIENT = ["maximum", "minimum", "squaredDifference"];
for (const [name, [run, low = -2, high = 2]] of Object.entries(BINARY)) {
  test(name, async () => {
    for (const [a, b] of PAIRS) {
      const args = [floats(`${name} a`, a, low, high), floats(`${name} b`, b, low, high)];
      const gradients = !NO_BROADCAST_GRADIENT.includes(name) || String(a) === String(b);
      await check(name, ([x, y]) => run(x, y), args, { gradients });
    }
  });
}

test("an argument used twice: its gradients add up", async () => {
  await check("x x + x", ([x]) => tf.add(tf.mul(x, x), x), [floats("twice", [2, 3])]);
});

const COMPARE = {
  equal: tf.equal,
  notEqual: tf.notEqual,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
};
test("comparisons, of whole numbers so that some are equal", async () => {
  for (const [name, run] of Object.entries(COMPARE)) {
    for (const [a, b] of PAIRS) {
      const args = [ints("compare a", a, 0, 3), ints("compare b", b, 0, 3)];
      await check(`${name} int32`, ([x, y]) => run(x, y), args, { gradients: false });
      const asFloats = args.map(({ shape, data }) => ({ shape, data: Float32Array.from(data) }));
      await check(`${name} float32`, ([x, y]) => run(x, y), asFloats, { gradients: false });
    }
  }
});

test("logic", async () => {
  const bool = (x: tf.Tensor) => tf.cast(x, "bool");
  for (const [a, b] of PAIRS) {
    const args = [ints("logic a", a, 0, 2), ints("logic b", b, 0, 2)];
    await check("and", ([x, y]) => tf.logicalAnd(bool(x), bool(y)), args, { gradients: false });
    await check("or", ([x, y]) => tf.logicalOr(bool(x), bool(y)), args, { gradients: false });
    await check("not", ([x]) => tf.logicalNot(bool(x)), args, { gradients: false });
  }
});

type Axes = number | number[] | undefined;
const AXES: [shape: number[], axes: Axes][] = [
  [[], undefined],
  [[5], undefined],
  [[5], 0],
  [[1], -1],
  [[3, 4], undefined],
  [[3, 4], 0],
  [[3, 4], -1],
  [[3, 1], 1],
  [
    [2, 3, 4],
    [0, -1],
  ],
  [[2, 3, 4], 1],
  [
    [2, 3, 1, 2],
    [1, 2],
  ],
];
const REDUCE = { sum: tf.sum, mean: tf.mean, max: tf.max, min: tf.min, prod: tf.prod };
for (const [name, reduce] of Object.entries(REDUCE)) {
  test(name, async () => {
    const gradients = name !== "prod"; // tfjs' gradient of a product takes cumprod, which has no rule
    for (const [shape, axes] of AXES) {
      for (const keepDims of [false, true]) {
        const label = `${name} axes ${axes} keepDims ${keepDims}`;
        await check(label, ([x]) => reduce(x, axes, keepDims), [floats(name, shape)], { gradients });
        await check(`${label} int32`, ([x]) => reduce(x, axes, keepDims), [ints(name, shape, -3, 4)], {
          gradients: false,
        });
      }
    }
  });
}

test("max and min with ties share the gradient as tfjs does", async () => {
  const args = [{ shape: [2, 3], data: Float32Array.of(1, 3, 3, 2, 2, 2) }];
  await check("max", ([x]) => tf.max(x, 1), args);
  await check("min", ([x]) => tf.min(x, 1), args);
});

test("sum of bools counts", async () => {
  const args = [ints("count", [3, 4], 0, 2)];
  await check("sum", ([x]) => tf.sum(tf.cast(x, "bool"), 1), args, { gradients: false });
  const direct: Operation = ([x]) => {
    const bools = tf.cast(x, "bool");
    return kernel("Sum", { x: bools }, { axis: [1], keepDims: false }, () => tf.sum(bools, 1));
  };
  await check("Sum", direct, args, { gradients: false });
});

test("argMax: the first of equals", async () => {
  for (const axis of [0, 1, -1]) {
    const args = [ints("argMax", [3, 4, 5], 0, 3)];
    await check(`argMax ${axis}`, ([x]) => tf.argMax(tf.cast(x, "float32"), axis), args, { gradients: false });
  }
});

test("reshape, expandDims, squeeze, flatten", async () => {
  await check("reshape", ([x]) => tf.reshape(x, [4, -1]), [floats("reshape", [2, 3, 4])]);
  await check("reshape to a scalar", ([x]) => tf.reshape(x, []), [floats("reshape", [1, 1])]);
  for (const axis of [0, 1, 2, -1]) {
    await check(`expandDims ${axis}`, ([x]) => tf.expandDims(x, axis), [floats("expandDims", [2, 3])]);
  }
  await check("squeeze", ([x]) => tf.add(tf.squeeze(x, [1]), 1), [floats("squeeze", [2, 1, 3, 1])]);
  await check("flatten", ([x]) => x.flatten().square(), [floats("flatten", [2, 1, 3])]);
});

test("broadcastTo", async () => {
  for (const [from, to] of pairsIn("3 2x3", "2x1x4 2x3x4", "1x1 3x2")) {
    await check("broadcastTo", ([x]) => tf.broadcastTo(x, to), [floats("broadcast", from)]);
    const direct: Operation = ([x]) =>
      kernel("BroadcastTo", { x }, { shape: to, inputShape: from }, () => tf.broadcastTo(x, to));
    await check("BroadcastTo", direct, [floats("broadcast", from)], { gradients: false });
    await check("BroadcastTo int32", direct, [ints("broadcast", from, -5, 5)], { gradients: false });
  }
});

test("transpose", async () => {
  const cases: [number[], number[] | undefined][] = [
    [[3], [0]],
    [[2, 3], undefined],
    [
      [2, 3, 4],
      [1, 2, 0],
    ],
    [
      [2, 3, 4],
      [0, 2, 1],
    ],
    [
      [2, 1, 3, 2],
      [3, 0, 2, 1],
    ],
  ];
  for (const [shape, perm] of cases) {
    await check(`transpose ${perm}`, ([x]) => tf.transpose(x, perm), [floats("transpose", shape)]);
    await check(`transpose ${perm}`, ([x]) => tf.transpose(x, perm), [ints("transpose", shape, 0, 99)]);
  }
});

test("slice", async () => {
  const cases: [number[], number[], number[]][] = [
    [[7], [2], [3]],
    [
      [3, 4],
      [1, 0],
      [-1, 2],
    ],
    [
      [2, 3, 4],
      [0, 1, 3],
      [-1, 2, 1],
    ],
    [[2, 3], [1], [1]], // the axes that are not named stay whole
  ];
  for (const [shape, begin, size] of cases) {
    await check(`slice ${begin} ${size}`, ([x]) => tf.slice(x, begin, size), [floats("slice", shape)]);
    await check(`slice ${begin} ${size}`, ([x]) => tf.slice(x, begin, size), [ints("slice", shape, 0, 99)]);
  }
});

test("pad", async () => {
  const cases: [number[], [number, number][], number][] = [
    [[3], [[1, 2]], 0],
    [
      [2, 3],
      [
        [0, 1],
        [2, 0],
      ],
      7,
    ],
    [
      [1, 2, 2],
      [
        [1, 1],
        [0, 0],
        [0, 3],
      ],
      -1,
    ],
  ];
  for (const [shape, paddings, value] of cases) {
    await check("pad", ([x]) => tf.pad(x, paddings, value), [floats("pad", shape)]);
    await check("pad int32", ([x]) => tf.pad(x, paddings, value), [ints("pad", shape, 0, 9)]);
  }
});

test("concat, stack", async () => {
  const args = [floats("c0", [2, 3, 4]), floats("c1", [2, 1, 4]), floats("c2", [2, 5, 4])];
  await check("concat 1", (xs) => tf.concat(xs, 1), args);
  await check("concat -2", (xs) => tf.concat(xs, -2), args);
  await check("concat of vectors", (xs) => tf.concat(xs), [floats("v0", [3]), floats("v1", [1])]);
  await check("concat int32", (xs) => tf.concat(xs), [ints("v0", [3], 0, 9), ints("v1", [1], 0, 9)]);
  for (const axis of [0, 1, 2, -1]) {
    await check(`stack ${axis}`, (xs) => tf.stack(xs, axis), [floats("s0", [2, 3]), floats("s1", [2, 3])]);
  }
});

test("split, unstack", async () => {
  await check("split in 3", ([x]) => tf.split(x, 3, 1), [floats("split", [2, 6])]);
  await check("split by sizes", ([x]) => tf.split(x, [1, 3, 2], -1), [floats("split", [2, 3, 6])]);
  await check("split by sizes with -1", ([x]) => tf.split(x, [1, -1], 0), [floats("split", [5])]);
  await check("split int32", ([x]) => tf.split(x, 2, 0), [ints("split", [4, 3], 0, 9)]);
  for (const axis of [0, 1, -1]) {
    await check(`unstack ${axis}`, ([x]) => tf.unstack(x, axis), [floats("unstack", [2, 3, 4])]);
  }
});

test("tile", async () => {
  const cases = pairsIn("3 2", "2x1 1x3", "2x1x3 2x2x1", "1x2x1x2 2x1x3x2");
  for (const [shape, reps] of cases) {
    await check(`tile ${reps}`, ([x]) => tf.tile(x, reps), [floats("tile", shape)]);
    await check(`tile ${reps} int32`, ([x]) => tf.tile(x, reps), [ints("tile", shape, 0, 9)]);
  }
});

test("addN", async () => {
  const args = [floats("n0", [2, 3]), floats("n1", [2, 3]), floats("n2", [2, 3])];
  for (const count of [1, 2, 3]) await check(`addN of ${count}`, (xs) => tf.addN(xs), args.slice(0, count));
});

test("where", async () => {
  const cases = ["2x3 2x3 2x3", "3 2x3 3", "2x1 2x3 []", "1 1 1"].map(shapesIn) as [number[], number[], number[]][];
  for (const [c, a, b] of cases) {
    const run: Operation = ([condition, x, y]) => tf.where(tf.cast(condition, "bool"), x, y);
    await check("where", run, [ints("where", c, 0, 2), floats("a", a), floats("b", b)]);
    await check("where int32", run, [ints("where", c, 0, 2), ints("a", a, 0, 9), ints("b", b, 0, 9)]);
  }
});

test("matMul", async () => {
  const turned = (shape: number[], turn: boolean) =>
    turn ? [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!] : shape;
  const cases = pairsIn("1x1 1x1", "3x4 4x5", "1x4 4x1", "2x3x4 2x4x5", "2x3x1x4 2x3x4x2");
  // tfjs' CPU backend gets [2, 1, 3, 4] by [3, 4, 2] wrong
  const broadcast = pairsIn("2x3x4 1x4x5", "1x3x4 2x4x5", "2x3x4 4x5", "3x4 2x4x5", "2x1x3x4 4x2");
  for (const ta of [false, true]) {
    for (const tb of [false, true]) {
      for (const [a, b] of [...cases, ...broadcast]) {
        const args = [floats("matmul a", turned(a, ta)), floats("matmul b", turned(b, tb))];
        // tfjs' own gradient does not sum over a broadcast axis
        const gradients = cases.some(([x, y]) => x === a && y === b);
        await check(`matMul ${ta} ${tb}`, ([x, y]) => tf.matMul(x, y, ta, tb), args, { gradients });
      }
    }
  }
});

test("gather", async () => {
  const cases: [x: number[], ids: number[], axis: number][] = [
    [[5], [3], 0],
    [[5, 2], [7], 0],
    [[5, 2], [2, 3], 0],
    [[2, 5, 3], [4], 1],
    [[2, 3, 5], [4], -1],
    [[2, 5], [1], -1],
  ];
  for (const [x, ids, axis] of cases) {
    const run: Operation = ([table, indices]) => tf.gather(table, indices as tf.Tensor1D, axis);
    await check(`gather ${axis}`, run, [floats("gather", x), ints("ids", ids, 0, 5)]);
    await check(`gather ${axis} int32`, run, [ints("gather", x, 0, 9), ints("ids", ids, 0, 5)]);
  }
});

test("oneHot; an index outside gives zeros", async () => {
  for (const shape of [[1], [6], [2, 3]]) {
    const args = [ints("oneHot", shape, -2, 6)];
    await check("oneHot", ([ids]) => tf.oneHot(ids, 4), args);
    await check("oneHot float32", ([ids]) => tf.oneHot(ids, 4, 0.75, 0.25, "float32"), args);
  }
});

test("unsortedSegmentSum: duplicates add up, an id outside is dropped", async () => {
  for (const [segments, low] of [
    [4, 0],
    [4, -2],
    [600, 0],
    [600, -5],
  ] as const) {
    const run: Operation = ([x, ids]) => tf.unsortedSegmentSum(x, ids as tf.Tensor1D, segments);
    for (const shape of [[9], [9, 3], [9, 2, 2]]) {
      await check(`unsortedSegmentSum ${segments}`, run, [floats("segments", shape), ints("ids", [9], low, 4)]);
    }
  }
});

test("int32 arithmetic", async () => {
  const unary: Record<string, Unary> = {
    abs: tf.abs,
    neg: tf.neg,
    sign: tf.sign,
    square: tf.square,
    relu: tf.relu,
    cumsum: tf.cumsum,
  };
  const binary: Record<string, Binary> = {
    add: tf.add,
    sub: tf.sub,
    mul: tf.mul,
    maximum: tf.maximum,
    minimum: tf.minimum,
    squaredDifference: tf.squaredDifference,
  };
  for (const [name, run] of Object.entries(unary)) await check(name, ([x]) => run(x), [ints("i", [2, 3], -9, 9)]);
  for (const [a, b] of PAIRS) {
    for (const [name, run] of Object.entries(binary)) {
      await check(name, ([x, y]) => run(x, y), [ints("i", a, -9, 9), ints("j", b, -9, 9)]);
    }
  }
  await check("int32 + float32", ([x, y]) => tf.add(x, y), [ints("i", [3], -9, 9), floats("f", [3])]);
});

test("zeros, ones, fill, zerosLike, onesLike, eye, range", async () => {
  const runs: Operation[] = [
    ([x]) => tf.add(x, tf.zeros([2, 3])),
    ([x]) => tf.mul(x, tf.ones([2, 3])),
    ([x]) => tf.mul(x, tf.fill([3], 2.5)),
    ([x]) => [tf.zerosLike(x), tf.onesLike(x)],
    ([x]) => tf.matMul(x, tf.eye(3)),
    ([x]) => tf.mul(x, tf.range(1, -0.5, -0.5)), // 1, 0.5, 0
    ([x]) => tf.mul(x, tf.fill([20, 2, 3], 0.5) as tf.Tensor), // large enough to be a ConstantOfShape
  ];
  for (const [i, run] of runs.entries()) await check(`constant ${i}`, run, [floats("constant", [2, 3])]);
});

nodeTest("every kernel that the engine has is tested here", async () => {
  for (const run of bodies) await run();
  const missing = kernelNames.filter((name) => name !== "Fused" && !seen.has(name));
  assert.deepEqual(missing, [], "kernels of lib/engine/lower.ts without a case here");
});
