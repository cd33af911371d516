// Against PyTorch: logits, every gradient, twenty training steps and the final weights of two small GPTs, as recorded
// in tests/fixtures/ by make_torch_fixtures.py, where the files' contents are explained.

import { readFileSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { SafetensorsFile } from "../lib/common/safetensors.ts";
import type { Engine } from "../lib/engine/runtime/program.ts";
import type { Batch } from "../lib/training/objective.ts";
import { adamw } from "../lib/training/optimizers/adamw.ts";
import { Step } from "../lib/training/step.ts";
import { GPT, type GPTConfig } from "../model.ts";
import { assertClose, compiled, eager, lossProgram, sizeOf } from "./support.ts";

interface Recording {
  model: Omit<GPTConfig, "dropout">;
  batch_size: number;
  accumulation: number;
  optimizer: {
    learning_rate: number[];
    beta1: number;
    beta2: number;
    eps: number;
    weight_decay: number;
    grad_clip: number;
  };
  first_loss: number;
  losses: number[];
  grad_norms: number[];
  no_gradient: Record<string, [from: number, to: number]>;
  final_left_out: string[];
}

// The recordings name the distance of PyTorch's own float32 from float64: 1.3e-6 in logits, 2e-7 in gradients, 7e-7 in
// losses, 3e-6 in norms, 1e-5 in final weights. The bounds are some ten times that; 1e-4 in the logits would let the
// other form of GELU pass.
const LOGITS = { atol: 2e-5 };
const GRADS = { atol: 1e-5 };
const LOSSES = { atol: 1e-5 };
const NORMS = { atol: 3e-5 };
const FINAL = { atol: 1e-4 };

function openCase(t: TestContext, name: string) {
  const path = (ending: string) => fileURLToPath(new URL(`./fixtures/torch_${name}.${ending}`, import.meta.url));
  const recording = JSON.parse(readFileSync(path("json"), "utf8")) as Recording;
  const file = new SafetensorsFile(path("safetensors"));
  t.after(() => file.close());
  const floats = (tensor: string, shape: readonly number[]) => {
    const data = new Float32Array(sizeOf(shape));
    file.read(tensor, shape, data);
    return data;
  };
  const model = new GPT({ ...recording.model, dropout: 0 });
  for (const { name, shape, data } of model.parameters) data.set(floats(`weights/${name}`, shape));

  // micro-batch number i, in the order in which they are trained on
  const { accumulation, batch_size: B, losses } = recording;
  const T = model.config.block_size;
  const tokens = (tensor: "x" | "y") => {
    const data = new Int32Array(losses.length * accumulation * B * T);
    file.read(tensor, [losses.length, accumulation, B, T], data);
    return data;
  };
  const [x, y] = [tokens("x"), tokens("y")];
  const rows = (ids: Int32Array, i: number) => ids.slice(i * B * T, (i + 1) * B * T);
  const batch = (i: number) => ({ x: rows(x, i), y: rows(y, i) }) as Batch;
  return { recording, model, floats, batch };
}

/** Train as the recording did; gives what it noted down. */
async function train(engine: Engine, { recording, model, batch }: ReturnType<typeof openCase>, steps: number) {
  const { accumulation, batch_size: B, optimizer: settings } = recording;
  const tokens = { shape: [B, model.config.block_size], dtype: "int32" } as const;
  const step = await Step.create({
    ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: { x: tokens, y: tokens } },
    loss: ({ x, y }) => model.loss(x, y),
    optimizer: adamw({ ...settings, epsilon: settings.eps }),
    ...{ weight_decay: settings.weight_decay, grad_clip: settings.grad_clip, microSteps: accumulation },
  });
  const [losses, norms]: [number[], number[]] = [[], []];
  for (let iteration = 0; iteration < steps; iteration++) {
    const { loss, gradNorm } = await step.run({
      ...{ iteration, learningRate: settings.learning_rate[iteration]! },
      batch: (micro) => batch(iteration * accumulation + micro),
    });
    losses.push(loss);
    norms.push(gradNorm);
  }
  await step.dispose();
  return { losses, norms };
}

for (const name of ["gelu_bias", "tanh_nobias"]) {
  for (const [kind, engine] of Object.entries({ compiled, eager })) {
    test(`${name}, ${kind}: logits, loss and every gradient of the first micro-batch`, async (t) => {
      const { recording, model, floats, batch } = openCase(t, name);
      const { block_size: T, vocab_size: V } = model.config;
      const B = recording.batch_size;
      const inputs = { x: { shape: [B, T], dtype: "int32" } } as const;
      const forward = await engine.program(({ x }) => model.logits(x), { variables: model.parameters, inputs });
      const logits = await forward.run({ x: batch(0).x });
      assertClose(logits, floats("logits", [B, T, V]), { ...LOGITS, label: "logits" });
      await forward.dispose();

      const backward = await lossProgram(engine, model, B);
      assertClose(await backward.run(batch(0)), [recording.first_loss], { ...LOSSES, label: "loss" });
      for (const { name, shape, grad } of model.parameters) {
        assertClose(grad!, floats(`grads/${name}`, shape), { ...GRADS, label: name });
      }
      await backward.dispose();
    });
  }

  test(`${name}, compiled: twenty steps and the final weights`, async (t) => {
    const opened = openCase(t, name);
    const { recording, model, floats } = opened;
    const { losses, norms } = await train(compiled, opened, recording.losses.length);
    assertClose(losses, recording.losses, { ...LOSSES, label: "losses" });
    assertClose(norms, recording.grad_norms, { ...NORMS, label: "gradient norms" });
    for (const { name, shape, data } of model.parameters) {
      if (recording.final_left_out.includes(name)) continue;
      const expected = floats(`final/${name}`, shape);
      const [from, to] = recording.no_gradient[name] ?? [0, 0]; // key biases: only rounding moves them
      expected.set(data.subarray(from, to), from);
      assertClose(data, expected, { ...FINAL, label: name });
    }
  });

  test(`${name}, eager: three steps`, async (t) => {
    const opened = openCase(t, name);
    const { losses, norms } = await train(eager, opened, 3);
    assertClose(losses, opened.recording.losses.slice(0, 3), { ...LOSSES, label: "losses" });
    assertClose(norms, opened.recording.grad_norms.slice(0, 3), { ...NORMS, label: "gradient norms" });
  });
}
