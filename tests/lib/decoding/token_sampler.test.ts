// Draws against the obvious implementation, which sorts everything and renormalises after every option.

import assert from "node:assert/strict";
import test from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import { keyOf, uniform } from "../../../lib/common/rng.ts";
import { type SamplingOptions, TokenSampler } from "../../../lib/decoding/token_sampler.ts";
import { assertClose, randomFloats } from "../../support.ts";

interface Candidate {
  token: number;
  p: number;
}

const sumOf = (list: readonly Candidate[]) => list.reduce((sum, { p }) => sum + p, 0);
const normalised = (list: readonly Candidate[]) => list.map(({ token, p }) => ({ token, p: p / sumOf(list) }));

function softmax(logits: readonly number[]): Candidate[] {
  const max = Math.max(...logits);
  return normalised(logits.map((logit, token) => ({ token, p: Math.exp(logit - max) })));
}

/** What may be drawn and how likely it is, from the likeliest down. */
function candidates(logits: Float32Array, options: SamplingOptions, seen: readonly number[]): Candidate[] {
  const { temperature = 1, top_k = 0, top_p = 1, min_p = 0, repetition_penalty: penalty = 1 } = options;
  const scores = Array.from(logits, (logit, token) => {
    if (!seen.includes(token)) return logit;
    return Math.fround(logit < 0 ? logit * penalty : logit / penalty);
  });
  let list = temperature === 0 ? softmax(scores) : softmax(scores.map((score) => score / temperature));
  list.sort((a, b) => scores[b.token]! - scores[a.token]! || a.token - b.token);
  if (temperature === 0) return [{ ...list[0]!, p: 1 }];
  if (top_k > 0) list = normalised(list.slice(0, top_k));
  if (top_p < 1) list = normalised(list.filter((_, i) => sumOf(list.slice(0, i)) < top_p));
  return normalised(list.filter(({ p }) => p >= min_p * list[0]!.p));
}

function expected(logits: Float32Array, options: SamplingOptions, seen: readonly number[], random: number) {
  const list = candidates(logits, options, seen);
  const { token } = list.find((_, i) => sumOf(list.slice(0, i + 1)) > random) ?? list[0]!;
  return { token, logprob: Math.log(softmax([...logits])[token]!.p) };
}

function assertDraws(
  logits: Float32Array,
  options: SamplingOptions,
  seen: readonly number[],
  random: number,
  sampler: TokenSampler,
) {
  const before = logits.slice();
  const { token, logprob } = sampler.sample(logits, seen, random);
  const label = JSON.stringify({ options, random, V: logits.length });
  const wanted = expected(logits, options, seen, random);
  assert.equal(token, wanted.token, label);
  assertClose([logprob], [wanted.logprob], { atol: 1e-9, label }); // both in double precision
  assert.deepEqual(logits, before, "the decoder's logits are not touched");
}

test("random logits and options, alone and together, with ties", () => {
  let count = 0;
  const key = keyOf("draw options");
  const next = () => uniform(key, count++);
  const maybe = <T>(value: T, off: T) => (next() < 0.5 ? value : off);
  for (let round = 0; round < 600; round++) {
    const V = 1 + Math.floor(next() * 40);
    const fine = randomFloats(`draw ${round}`, [V], -4, 4);
    const logits = round % 2 === 0 ? fine.map(Math.round) : fine; // many equals, or none
    const options = {
      temperature: maybe([0, 0.3, 2][Math.floor(next() * 3)]!, 1),
      top_k: maybe(Math.floor(next() * 50), 0),
      top_p: maybe(1e-3 + 0.998 * next(), 1),
      min_p: maybe(next() ** 2, 0),
      repetition_penalty: maybe(0.5 + 1.5 * next(), 1),
    };
    const seen = Array.from({ length: Math.floor(next() * 10) }, () => Math.floor(next() * V));
    const sampler = new TokenSampler(V, options); // one for several draws: nothing may be left of the one before
    for (let i = 0; i < 5; i++) assertDraws(logits, options, seen, next(), sampler);
    assertDraws(randomFloats(`other ${round}`, [V]), options, [], next(), sampler);
  }
});

test("a large vocabulary", () => {
  const V = 1000;
  const logits = randomFloats("large", [V], -6, 6);
  for (const options of [
    {},
    { top_k: 200 },
    { top_k: 200, top_p: 0.9 },
    { top_p: 0.5 },
    { min_p: 0.3 },
    { top_k: V },
  ]) {
    const sampler = new TokenSampler(V, options);
    for (const random of [0, 0.1, 0.77, 1 - 2 ** -53]) {
      const { token } = sampler.sample(logits, [], random);
      // the last one is where rounding of sums of 1000 in another order could show: then any that may be drawn will do
      if (random < 0.9) assert.equal(token, expected(logits, options, [], random).token, JSON.stringify(options));
      else assert.ok(candidates(logits, options, []).some((candidate) => candidate.token === token));
    }
  }
});

/** The share of each token in draws by evenly spaced numbers instead of random ones. */
function shares(logits: number[], options: SamplingOptions): number[] {
  const count = 4000;
  const sampler = new TokenSampler(logits.length, options);
  const found = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < count; i++) {
    found[sampler.sample(Float32Array.from(logits), [], (i + 0.5) / count).token]! += 1 / count;
  }
  return found;
}

test("shares follow softmax(logits / temperature) over what the options leave", () => {
  const logits = [0.3, 2, -1, 1.2, 0, -3];
  const close = (options: SamplingOptions, wanted: number[]) =>
    // evenly spaced numbers hit each share to within one draw of 4000
    assertClose(shares(logits, options), wanted, { atol: 1.01 / 4000, label: JSON.stringify(options) });
  const p = (scores: number[]) => softmax(scores).map((candidate) => candidate.p);
  close({}, p(logits));
  for (const temperature of [0.5, 3]) close({ temperature }, p(logits.map((score) => score / temperature)));
  close(
    { temperature: 1e9 },
    [1, 1, 1, 1, 1, 1].map((one) => one / 6),
  );
  close({ temperature: 1e-6 }, [0, 1, 0, 0, 0, 0]);
  close({ temperature: 0, top_k: 3 }, [0, 1, 0, 0, 0, 0]);
  const [a, b, c] = p([2, 1.2, 0.3]);
  close({ top_k: 3 }, [c!, a!, 0, b!, 0, 0]);
  close({ top_k: 1, temperature: 5 }, [0, 1, 0, 0, 0, 0]);
  close({ top_k: 100 }, p(logits));
  // the probabilities are 0.53, 0.24, 0.10, 0.07, ...: the second reaches 0.77, the third 0.87
  const [first, second] = p([2, 1.2]);
  close({ top_p: 0.7 }, [0, first!, 0, second!, 0, 0]);
  close({ top_p: 0.8 }, [c!, a!, 0, b!, 0, 0]);
  close({ top_p: 0.01 }, [0, 1, 0, 0, 0, 0]);
  close({ min_p: 0.4 }, [0, first!, 0, second!, 0, 0]); // e^-0.8 is 0.45, e^-1.7 is 0.18
  close({ min_p: 1 }, [0, 1, 0, 0, 0, 0]);
  // of the two that top_k leaves the first alone has 0.69: top_p counts in what is left, not in what was
  close({ top_k: 2, top_p: 0.65 }, [0, 1, 0, 0, 0, 0]);
});

test("random numbers give frequencies", () => {
  const logits = Float32Array.from([1, 0, -1, 2, 0.5]);
  const options = { temperature: 0.9, top_k: 4 };
  const sampler = new TokenSampler(5, options);
  const count = 20_000;
  const found = new Array<number>(5).fill(0);
  for (let i = 0; i < count; i++) found[sampler.sample(logits, [], uniform(keyOf("frequencies", i), 0)).token]!++;
  for (const { token, p } of candidates(logits, options, [])) {
    const deviation = Math.sqrt(p * (1 - p) * count);
    assert.ok(
      Math.abs(found[token]! - p * count) < 4 * deviation,
      `token ${token}: ${found[token]} of ${count}, p ${p}`,
    );
  }
  assert.equal(found[2], 0, "the fifth likeliest of four");
});

test("equals: the lower number is the likelier, and the k-th place goes to it", () => {
  const equal = [7, 7, 7, 7];
  assertClose(shares(equal, {}), [0.25, 0.25, 0.25, 0.25], { atol: 0.001, label: "all" });
  assertClose(shares(equal, { top_k: 2 }), [0.5, 0.5, 0, 0], { atol: 0.001, label: "top_k" });
  assertClose(shares(equal, { top_p: 0.6 }), [1 / 3, 1 / 3, 1 / 3, 0], { atol: 0.001, label: "top_p" });
  assertClose(shares(equal, { temperature: 0 }), [1, 0, 0, 0], { atol: 0.001, label: "greedy" });
  assertClose(shares([0, 7, 7], { top_k: 1 }), [0, 1, 0], { atol: 0.001, label: "greedy" });
});

test("logits in the thousands, or of -Infinity, don't break the draw", () => {
  assertClose(shares([-5000, 5000, 0], {}), [0, 1, 0], { atol: 0.001, label: "far apart" });
  const none = Number.NEGATIVE_INFINITY;
  assertClose(shares([none, 1, none, 1], { top_k: 3 }), [0, 0.5, 0, 0.5], { atol: 0.001, label: "impossible ones" });
  const { token, logprob } = new TokenSampler(2).sample(Float32Array.of(-5000, 5000), [], 0.5);
  assert.deepEqual({ token, logprob }, { token: 1, logprob: 0 });
});

test("logits that are NaN are a fault in the model, said in one line", () => {
  for (const bad of [
    [Number.NaN, 1],
    [1, Number.NaN],
    [Number.POSITIVE_INFINITY, 1],
  ]) {
    for (const options of [{}, { temperature: 0 }, { top_k: 1 }, { top_p: 0.5 }, { repetition_penalty: 2 }]) {
      const draw = () => new TokenSampler(2, options).sample(Float32Array.from(bad), [0], 0.5);
      assert.throws(draw, (error) => error instanceof UserError && /NaN/.test(error.message));
    }
  }
});

test("the repetition penalty makes what was there less likely, whatever its sign, and once", () => {
  const greedy = { temperature: 0, repetition_penalty: 2 };
  const draw = (logits: number[], seen: number[]) =>
    new TokenSampler(2, greedy).sample(Float32Array.from(logits), seen, 0);
  assert.equal(draw([3, 2], []).token, 0);
  assert.equal(draw([3, 2], [0]).token, 1); // 1.5 against 2
  assert.equal(draw([3, 1], [0, 0]).token, 0); // 1.5 against 1, not 0.75
  assert.equal(draw([-1, -1.5], [0]).token, 1); // -2 against -1.5
  assertClose([draw([3, 2], [0]).logprob], [Math.log(1 / (1 + Math.E))], { atol: 1e-9, label: "the model's own" });
});
