// Samples the next token from logits. The options apply in the order of Hugging Face's transformers: repetition penalty, temperature,
// top_k, top_p, min_p. Left out: beam search, and penalties by a token's frequency.

import { UserError } from "../common/errors.ts";

export interface SamplingOptions {
  temperature?: number; // divides the logits; 0 is greedy
  top_k?: number; // only the k likeliest; 0 for all, 1 is greedy
  top_p?: number; // only the likeliest whose probabilities just sum to this (Holtzman et al. 2020); 1 for all
  min_p?: number; // only those with at least this share of the likeliest's probability (Nguyen et al. 2024); 0 for all
  repetition_penalty?: number; // of earlier tokens: logits > 0 divided by it, < 0 multiplied (Keskar et al. 2019)
  logprobs?: boolean; // compute log-probabilities: costs an exponential for every token of the vocabulary
}

export interface SampledToken {
  token: number;
  logprob: number; // ln of the token's probability in the model's own softmax, whatever the options; NaN if not asked for
}

/**
 * Samples from logits [V]. top_k, top_p and min_p each keep the head of the list of tokens from the likeliest down (ties: the lower
 * token first), so a heap produces that list only as far as needed. top_k keeps exactly k: of tokens tied for the k-th
 * place the lower ones (transformers keeps them all).
 */
export class TokenSampler {
  readonly #options: Required<SamplingOptions>;
  readonly #scores: Float32Array; // [V], logits after a penalty
  readonly #heap: Int32Array; // [V]: first the heap of tokens not listed yet, then the list, backwards
  #left = 0; // tokens in the heap

  constructor(vocabSize: number, options: SamplingOptions = {}) {
    this.#options = { temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1, logprobs: true, ...options };
    this.#scores = new Float32Array(this.#options.repetition_penalty === 1 ? 0 : vocabSize);
    this.#heap = new Int32Array(vocabSize);
  }

  /**
   * @param seen the tokens that the repetition penalty applies to
   * @param random in [0, 1): chooses the token, from the likeliest (0) down
   * @throws UserError if a logit is NaN
   */
  sample(logits: Float32Array, seen: Iterable<number>, random: number): SampledToken {
    const { temperature, top_k, logprobs } = this.#options;
    if (!(sum(logits) < Number.POSITIVE_INFINITY)) {
      throw new UserError("the model's logits are NaN; its training has diverged or its weights are damaged");
    }
    const scores = this.#penalize(logits, seen);
    const best = likeliest(scores);
    const greedy = temperature === 0 || top_k === 1;
    const token = greedy ? best : this.#sample(scores, scores[best]!, random);
    return { token, logprob: logprobs ? logits[token]! - logSumExp(logits) : Number.NaN };
  }

  #penalize(logits: Float32Array, seen: Iterable<number>): Float32Array {
    const { repetition_penalty: penalty } = this.#options;
    if (penalty === 1) return logits;
    this.#scores.set(logits);
    for (const token of seen) {
      const logit = logits[token]!;
      this.#scores[token] = logit < 0 ? logit * penalty : logit / penalty;
    }
    return this.#scores;
  }

  /** Inverse transform sampling: the first token at which the sum of weights is more than random times their total. */
  #sample(scores: Float32Array, max: number, random: number): number {
    const { temperature, top_k, top_p, min_p } = this.#options;
    const V = scores.length;
    const weightOf = (token: number) => Math.exp((scores[token]! - max) / temperature); // 1 for the likeliest
    this.#heapify(scores);
    let count = top_k > 0 ? Math.min(top_k, V) : V;
    let total = 0;
    if (count < V) for (let i = 0; i < count; i++) total += weightOf(this.#listed(i, scores));
    else for (let token = 0; token < V; token++) total += weightOf(token);
    if (top_p < 1 || min_p > 0) {
      const enough = top_p < 1 ? top_p * total : Number.POSITIVE_INFINITY;
      const among = count;
      for (count = 0, total = 0; count < among && total < enough; count++) {
        const weight = weightOf(this.#listed(count, scores));
        if (weight < min_p) break;
        total += weight;
      }
    }
    let left = random * total;
    for (let i = 0; i < count; i++) {
      const token = this.#listed(i, scores);
      left -= weightOf(token);
      if (left < 0) return token;
    }
    return this.#listed(0, scores); // only by rounding
  }

  /** Token `i` of the list from the likeliest down; must be called for consecutive `i`. */
  #listed(i: number, scores: Float32Array): number {
    const place = scores.length - 1 - i;
    if (place < this.#left) {
      const top = this.#heap[0]!;
      this.#left = place;
      this.#sink(0, this.#heap[place]!, scores);
      this.#heap[place] = top;
    }
    return this.#heap[place]!;
  }

  #heapify(scores: Float32Array): void {
    this.#left = scores.length;
    for (let i = 0; i < this.#left; i++) this.#heap[i] = i;
    for (let i = (this.#left >> 1) - 1; i >= 0; i--) this.#sink(i, this.#heap[i]!, scores);
  }

  /** Sift `token` down from the free `place` of the heap. */
  #sink(place: number, token: number, scores: Float32Array): void {
    const heap = this.#heap;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.#left) break;
      if (child + 1 < this.#left && comesFirst(heap[child + 1]!, heap[child]!, scores)) child++;
      if (!comesFirst(heap[child]!, token, scores)) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = token;
  }
}

function comesFirst(a: number, b: number, scores: Float32Array): boolean {
  const difference = scores[a]! - scores[b]!;
  return difference > 0 || (scores[a] === scores[b] && a < b);
}

function sum(numbers: Float32Array): number {
  let total = 0;
  for (let i = 0; i < numbers.length; i++) total += numbers[i]!;
  return total;
}

/** The first of the largest. */
function likeliest(scores: Float32Array): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[best]!) best = i;
  return best;
}

function logSumExp(logits: Float32Array): number {
  const max = logits[likeliest(logits)]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max);
  return max + Math.log(sum);
}
