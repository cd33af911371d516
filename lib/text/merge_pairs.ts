// The merging of byte-pair encoding: neighbours are joined, the pair with the lowest token first, until no pair
// is a token. With a heap, because scraped text has "words" of a megabyte: O(n log n).

const NONE = -1;
const PLACES = 2 ** 32; // a heap's key is rank * PLACES + place: the lowest rank first, ties: the leftmost

/** The tokens of a word. `bytes` holds one byte per character (latin1), as do the keys of `rankOf`, which has every
 * single byte. */
export function mergePairs(bytes: string, rankOf: ReadonlyMap<string, number>): number[] {
  // the word's parts, as a linked list: a part is identified by its first byte
  const length = bytes.length;
  const next = Int32Array.from({ length }, (_, i) => i + 1);
  const previous = Int32Array.from({ length }, (_, i) => i - 1);
  const joined = new Int32Array(length); // the rank of a part together with the next one
  const heap: number[] = [];

  function rate(part: number): void {
    const neighbour = next[part]!;
    joined[part] = neighbour < length ? (rankOf.get(bytes.slice(part, next[neighbour])) ?? NONE) : NONE;
    if (joined[part] !== NONE) push(heap, joined[part]! * PLACES + part);
  }

  for (let part = 0; part < length; part++) rate(part);
  while (heap.length > 0) {
    const key = pop(heap);
    const part = key % PLACES;
    if (joined[part] !== (key - part) / PLACES) continue; // a neighbour was joined meanwhile
    const neighbour = next[part]!;
    const after = next[neighbour]!;
    joined[neighbour] = NONE;
    next[part] = after;
    if (after < length) previous[after] = part;
    rate(part);
    if (part > 0) rate(previous[part]!);
  }

  const tokens: number[] = [];
  for (let part = 0; part < length; part = next[part]!) {
    const token = rankOf.get(bytes.slice(part, next[part]));
    if (token === undefined) throw new Error(`internal: no token for byte ${bytes.charCodeAt(part)}`);
    tokens.push(token);
  }
  return tokens;
}

function push(heap: number[], key: number): void {
  let at = heap.push(key) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent]! <= key) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = key;
}

function pop(heap: number[]): number {
  const lowest = heap[0]!;
  const key = heap.pop()!;
  let at = 0;
  for (let child = 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= key) break;
    heap[at] = heap[child]!;
    at = child;
  }
  if (heap.length > 0) heap[at] = key;
  return lowest;
}
