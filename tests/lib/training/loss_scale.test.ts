// lib/training/loss_scale.ts: when the scale changes, against PyTorch's scaler; and that a restored
// scaler goes on as the one that was kept.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { LossScaler } from "../../../lib/training/loss_scale.ts";

const good = () => ({ loss: 2, grad_norm: 1 });
const overflow = () => ({ loss: 2, grad_norm: Number.POSITIVE_INFINITY });

function repeat(scaler: LossScaler, count: number): void {
  for (let i = 0; i < count; i++) assert.equal(scaler.update(good()), undefined);
}

test("the scale is what torch.amp.GradScaler's is, over 9000 steps with eight overflows", () => {
  const path = new URL("../../fixtures/autocast.json", import.meta.url);
  const { steps, overflows, scales } = JSON.parse(readFileSync(path, "utf8"));
  const scaler = new LossScaler();
  const changes: number[][] = [];
  for (let step = 0; step < steps; step++) {
    if (changes.at(-1)?.[1] !== scaler.scale) changes.push([step, scaler.scale]);
    scaler.update(overflows.includes(step) ? overflow() : good());
  }
  assert.deepEqual(changes, scales);
  assert.equal(scaler.skipped, overflows.length);
});

test("it starts at 65536, doubles after 2000 good steps in a row and not after 1999, an overflow and 1999 more", () => {
  const scaler = new LossScaler();
  repeat(scaler, 1999);
  assert.equal(scaler.scale, 65_536);
  repeat(scaler, 1);
  assert.equal(scaler.scale, 131_072);
  repeat(scaler, 1999);
  assert.match(scaler.update(overflow())!, /skipped.*65536 now/);
  repeat(scaler, 1999);
  assert.equal(scaler.scale, 65_536);
  repeat(scaler, 1);
  assert.equal(scaler.scale, 131_072);
});

test("it stays a float32: the largest power of 2 is not doubled", () => {
  const scaler = new LossScaler();
  scaler.restore({ scale: 2 ** 127, good_steps: 1999, skipped_steps: 0 });
  repeat(scaler, 1);
  assert.equal(scaler.scale, 2 ** 127);
});

test("a skipped step has no gradient norm; a loss that is no number, and a scale below 1, keep theirs", () => {
  const scaler = new LossScaler();
  const usual = good();
  scaler.update(usual);
  assert.deepEqual(usual, { loss: 2, grad_norm: 1, loss_scale: 65_536, skipped_steps: 0 });
  for (const grad_norm of [Number.POSITIVE_INFINITY, Number.NaN]) {
    const skipped = { loss: 2, grad_norm };
    assert.match(scaler.update(skipped)!, /^the gradient is too large for float16; the step is skipped/);
    assert.deepEqual(skipped, { loss: 2, loss_scale: scaler.scale, skipped_steps: scaler.skipped });
  }
  assert.equal(scaler.scale, 16_384);

  const before = scaler.state();
  for (const loss of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const broken = { loss, grad_norm: Number.NaN };
    assert.equal(scaler.update(broken), undefined);
    assert.ok(Number.isNaN(broken.grad_norm));
    assert.deepEqual(scaler.state(), before);
  }

  scaler.restore({ scale: 1, good_steps: 5, skipped_steps: 16 });
  const hopeless = overflow();
  assert.match(scaler.update(hopeless)!, /^the gradient is too large for float16 even with a loss scale of 1$/);
  assert.equal(hopeless.grad_norm, Number.POSITIVE_INFINITY);
});

test("a restored scaler goes on as the one that was kept; a checkpoint without one is a start", () => {
  const kept = new LossScaler();
  kept.update(overflow());
  repeat(kept, 1500);
  const restored = new LossScaler();
  restored.restore(JSON.parse(JSON.stringify(kept.state())));
  for (const scaler of [kept, restored]) {
    repeat(scaler, 499);
    assert.equal(scaler.scale, 32_768);
    repeat(scaler, 1);
    assert.equal(scaler.scale, 65_536);
  }
  assert.deepEqual(restored.state(), kept.state());
  restored.restore(undefined);
  assert.deepEqual(restored.state(), { scale: 65_536, good_steps: 0, skipped_steps: 0 });
});
