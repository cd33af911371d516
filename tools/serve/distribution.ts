// The likeliest tokens at one position, for the page's bars. Independent of browser and Node.

export interface Likely {
  token: number;
  probability: number; // in the model's own softmax, whatever the temperature
}

/** The `count` likeliest of logits [V], from the likeliest down (ties: the lower token first), and `chosen` after
 * them if it isn't among them. */
export function likeliest(logits: Float32Array, count: number, chosen: number): Likely[] {
  const top: number[] = [];
  for (let token = 0; token < logits.length; token++) {
    if (top.length === count && !(logits[token]! > logits[top.at(-1)!]!)) continue;
    const place = top.findIndex((other) => logits[token]! > logits[other]!);
    top.splice(place < 0 ? top.length : place, 0, token);
    if (top.length > count) top.pop();
  }
  const max = logits[top[0]!]!;
  let sum = 0;
  for (let token = 0; token < logits.length; token++) sum += Math.exp(logits[token]! - max);
  const listed = top.includes(chosen) ? top : [...top, chosen];
  return listed.map((token) => ({ token, probability: Math.exp(logits[token]! - max) / sum }));
}
