// What tracing writes down, what it refuses and what it leaves behind.

import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { type DeclareInput, TraceError, trace } from "../../../lib/engine/trace.ts";
import "../../support.ts"; // sets the plain backend, "cpu" where no tfjs-node is installed

const lines = (...text: string[]) => text.join("\n");
const before = tf.getBackend();

function refuses(body: (input: DeclareInput) => Record<string, tf.Tensor>, ...patterns: RegExp[]): void {
  assert.throws(
    () => trace(body),
    (error) => {
      assert.ok(error instanceof TraceError, `not a TraceError: ${error}`);
      for (const pattern of patterns) assert.match(error.message, pattern);
      return true;
    },
  );
  assert.equal(tf.getBackend(), before, "the backend is restored after an error");
}

test("adding a bias is one node", () => {
  const graph = trace((input) => ({ y: tf.add(input("x", [2, 3], "float32"), input("b", [3], "float32")) }));
  assert.equal(
    String(graph),
    lines("%0 f32[2,3] = input x", "%1 f32[3] = input b", "%2 f32[2,3] = Add %0 %1", "return y=%2"),
  );
});

test("numbers that the function makes are constants; long ones are shortened in print", () => {
  const graph = trace((input) => {
    const x = input("x", [6], "float32");
    return { y: tf.mul(tf.mul(x, 0.5), tf.tensor1d([1, 2, 3, 4, 5, 6])) };
  });
  assert.equal(
    String(graph),
    lines(
      "%0 f32[6] = input x",
      "%1 f32[] = constant 0.5",
      "%3 f32[6] = constant 1 2 3 4 …",
      "%2 f32[6] = Multiply %0 %1",
      "%4 f32[6] = Multiply %2 %3",
      "return y=%4",
    ),
  );
});

test("attributes are written in one form: axes are listed and not negative, sizes have no -1", () => {
  const graph = trace((input) => {
    const x = input("x", [2, 3, 4], "float32");
    return { a: tf.sum(x, -1, true), b: tf.slice(x, [0, 1], [-1, 2]), c: tf.reshape(x, [6, -1]) };
  });
  assert.deepEqual(
    graph.nodes.map(({ kernel, attrs, outputs }) => [kernel, attrs, outputs[0]!.shape]),
    [
      ["Sum", { axes: [2], keepDims: true }, [2, 3, 1]],
      ["Slice", { begin: [0, 1, 0], size: [2, 2, 4] }, [2, 2, 4]],
      ["Reshape", {}, [6, 4]],
    ],
  );
});

test("types are kept", () => {
  const graph = trace((input) => {
    const ids = input("ids", [2], "int32");
    const keep = input("keep", [2], "bool");
    return { y: tf.where(keep, ids, tf.zerosLike(ids)), z: tf.greater(ids, 1) };
  });
  assert.match(String(graph), /i32\[2\] = input ids\n.* bool\[2\] = input keep/);
  assert.equal(graph.outputs.get("y")!.dtype, "int32");
  assert.equal(graph.outputs.get("z")!.dtype, "bool");
});

test("kernels and constants that no output needs are dropped", () => {
  const graph = trace((input) => {
    const x = input("x", [2], "float32");
    tf.exp(tf.add(x, tf.tensor1d([7, 8])));
    return { y: tf.neg(x) };
  });
  assert.equal(String(graph), lines("%0 f32[2] = input x", "%4 f32[2] = Neg %0", "return y=%4"));
});

test("gradients are recorded", () => {
  const graph = trace((input) => {
    const x = input("x", [3], "float32");
    const { value, grads } = tf.valueAndGrads((x: tf.Tensor) => tf.sum(tf.square(x)) as tf.Scalar)([x]);
    return { value, gradient: grads[0]! };
  });
  const kernels = graph.nodes.map(({ kernel }) => kernel);
  assert.ok(kernels.includes("Square") && kernels.includes("Sum") && kernels.includes("Multiply"), String(graph));
  assert.deepEqual(graph.outputs.get("gradient")!.shape, [3]);
});

test("a view with another shape is seen as a Reshape", () => {
  const graph = trace((input) => {
    const x = input("x", [2, 3], "float32");
    const view = tf.engine().makeTensorFromDataId(x.dataId, [6], "float32"); // what some tfjs functions do inside
    return { y: tf.cumsum(view), x };
  });
  const cumsum = 'Cumsum %1 {"axis":0,"exclusive":false,"reverse":false}';
  assert.equal(
    String(graph),
    lines("%0 f32[2,3] = input x", "%1 f32[6] = Reshape %0", `%2 f32[6] = ${cumsum}`, "return y=%2 x=%0"),
  );
});

test("elementwise work on views is done on what they are views of, and a view comes back to its original", () => {
  const graph = trace((input) => {
    const [x, z] = [input("x", [2, 3], "float32"), input("z", [3, 2], "float32")];
    const sum = tf.add(tf.neg(tf.reshape(x, [6])), tf.reshape(z, [6]));
    return { y: tf.reshape(sum, [2, 3]) };
  });
  assert.equal(
    String(graph).replaceAll(/%\d+/g, "%"),
    lines(
      "% f32[2,3] = input x",
      "% f32[3,2] = input z",
      "% f32[2,3] = Neg %",
      "% f32[2,3] = Reshape %",
      "% f32[2,3] = Add % %",
      "return y=%",
    ),
  );
});

test("a kernel without a rule fails with its name and what to do", () => {
  const unknown: Record<string, (x: tf.Tensor) => tf.Tensor> = {
    TopK: (x) => tf.topk(x, 1).values,
    Conv2D: (x) => tf.conv2d(tf.reshape(x, [1, 2, 2, 1]) as tf.Tensor4D, tf.ones([1, 1, 1, 1]), 1, "valid"),
    Einsum: (x) => tf.einsum("ij->i", tf.reshape(x, [2, 2])),
    FFT: (x) => tf.real(tf.fft(tf.complex(x, x))),
    FloorDiv: (x) => tf.floorDiv(tf.cast(x, "int32"), tf.scalar(2, "int32")),
  };
  for (const [name, run] of Object.entries(unknown)) {
    const kernel = name === "FFT" ? "Complex" : name; // it fails where the complex numbers are made
    refuses(
      (input) => ({ y: run(input("x", [4], "float32")) }),
      new RegExp(`kernel ${kernel}:`),
      /lib\/engine\/trace\.ts and lib\/engine\/lower\.ts/,
      /--compile=false/,
    );
  }
});

test("a known kernel in a form without a rule says so", () => {
  refuses((input) => {
    const x = input("x", [2, 3], "float32");
    return { y: tf.gather(x, tf.zeros([2, 1], "int32"), 1, 1) };
  }, /batchDims is not supported/);
});

test("reading a value says that there is none yet", () => {
  const reads: Record<string, (x: tf.Tensor) => unknown> = {
    dataSync: (x) => x.dataSync(),
    arraySync: (x) => x.arraySync(),
    print: (x) => x.print(),
  };
  for (const read of Object.values(reads)) {
    refuses(
      (input) => {
        const x = input("x", [2], "float32");
        read(tf.neg(x));
        return { x };
      },
      /read while tracing/,
      /--compile=false/,
    );
  }
});

test("data() and array() reject while tracing", async () => {
  const promises: Promise<unknown>[] = [];
  trace((input) => {
    const y = tf.neg(input("x", [2], "float32"));
    promises.push(y.data(), y.array());
    for (const promise of promises) promise.catch(() => undefined); // looked at below
    return { y };
  });
  for (const promise of promises) await assert.rejects(promise, /read while tracing/);
});

test("a constant can be read: its numbers are known", () => {
  trace((input) => {
    assert.deepEqual([...tf.tensor1d([1, 2]).dataSync()], [1, 2]);
    return { x: input("x", [], "float32") };
  });
});

test("a tensor of an earlier trace is refused", () => {
  let kept: tf.Tensor | undefined;
  trace((input) => {
    kept = tf.keep(tf.neg(input("x", [2], "float32")));
    return { kept };
  });
  refuses((input) => ({ y: tf.add(input("x", [2], "float32"), kept!) }), /tensor of an earlier trace/);
  kept!.dispose();
});

test("two inputs can't have one name", () => {
  assert.throws(
    () => trace((input) => ({ y: tf.add(input("x", [], "float32"), input("x", [], "float32")) })),
    /two graph inputs are called x/,
  );
  assert.equal(tf.getBackend(), before);
});

test("a trace within a trace is refused, and the outer one fails with it", () => {
  refuses(() => {
    trace((input) => ({ x: input("x", [], "float32") }));
    return {};
  }, /can't trace another/);
});

test("types that ONNX can't carry through are refused", () => {
  refuses((input) => ({ x: input("x", [1], "float32"), s: tf.tensor1d(["a"]) }), /type string/);
});

test("an eager tensor from outside becomes a constant, and is what it was before and after", (t: TestContext) => {
  const outside = tf.tensor1d([1, 2, 3]);
  const flags = tf.tensor1d([1, 0, 1], "bool");
  t.after(() => tf.dispose([outside, flags]));
  const doubled = () => tf.tidy(() => [...tf.mul(outside, 2).dataSync(), ...flags.dataSync()]);
  assert.deepEqual(doubled(), [2, 4, 6, 1, 0, 1]);
  for (let round = 0; round < 2; round++) {
    const graph = trace((input) => ({ y: tf.where(flags, outside, input("x", [3], "float32")) }));
    const constants = [...graph.constants.values()].map((data) => [...data]);
    assert.deepEqual(constants.sort(), [
      [1, 0, 1],
      [1, 2, 3],
    ]);
    assert.deepEqual(doubled(), [2, 4, 6, 1, 0, 1]);
  }
});

test("an eager tensor stays usable after two traces without a use between", (t) => {
  const outside = tf.tensor1d([1, 2, 3]);
  t.after(() => outside.dispose());
  const run = () => trace((input) => ({ y: tf.add(outside, input("x", [3], "float32")) }));
  assert.equal(String(run()), String(run()));
  assert.deepEqual([...outside.dataSync()], [1, 2, 3]);
});

test("an error of the function itself comes through unchanged, and the backend is restored", () => {
  const mine = new Error("mine");
  assert.throws(
    () =>
      trace(() => {
        throw mine;
      }),
    (error) => error === mine,
  );
  assert.equal(tf.getBackend(), before);
  assert.deepEqual([...tf.tidy(() => tf.add(1, 2).dataSync())], [3]);
});

test("no tensors leak, neither from traces nor from failed ones", () => {
  const { numTensors } = tf.memory();
  for (let i = 0; i < 5; i++) {
    trace((input) => {
      const x = input("x", [2, 3], "float32");
      const { grads } = tf.valueAndGrads((x: tf.Tensor) => tf.sum(tf.softmax(tf.mul(x, 2))) as tf.Scalar)([x]);
      return { gradient: grads[0]! };
    });
    refuses((input) => ({ y: tf.topk(input("x", [4], "float32"), 1).values }), /TopK/);
  }
  assert.equal(tf.memory().numTensors, numTensors);
});
