// One graph for varying sizes, such as the batch and the number of tokens. Tracing gives a graph of concrete numbers, so the function is
// traced twice, with primes as sizes: where the two graphs differ, a number depends on the sizes, and its factors show which. Lowering
// then writes that expression instead of the number. If both graphs lower to the same bytes, no number was missed (frozen.ts
// checks it).

import type { Graph } from "./graph.ts";

/** A number of a graph as a product of a factor and, for each term, the sum of its sizes. */
export interface Expression {
  factor: number;
  terms: string[][];
}

/** The expressions of a graph's numbers. */
export type Expressions = ReadonlyMap<number, Expression>;

export type SizeValues = Readonly<Record<string, number>>;

/** Primes, so that a product reveals its factors; above 64, so that a constant of such a length is not written out. */
const PRIMES = [
  [101, 103, 107, 109],
  [127, 131, 137, 139],
  [149, 151, 157, 163],
  [167, 173, 179, 181],
] as const;

/**
 * Trace at two choices of sizes and compare.
 * @param names names of the sizes, at most 4
 * @returns both graphs, each with the expressions of its numbers
 * @throws Error if the two differ in more than sizes, or a number is not a product of sizes and sums of two
 */
export function traceSizes(names: readonly string[], trace: (sizes: SizeValues) => Graph) {
  const choose = (primes: readonly number[]) => Object.fromEntries(names.map((name, i) => [name, primes[i]!]));
  for (const [i, primes] of PRIMES.entries()) {
    const [first, second] = [choose(primes), choose(PRIMES[(i + 1) % PRIMES.length]!)];
    const graphs = [trace(first), trace(second)] as const;
    const pairs = compare(...graphs);
    const fixed = new Set(pairs.filter(([a, b]) => a === b).map(([a]) => a));
    const moving = pairs.filter(([a, b]) => a !== b);
    if (moving.some(([a, b]) => fixed.has(a) || fixed.has(b))) continue; // a size of the model equals one of our primes
    const expressions = [new Map<number, Expression>(), new Map<number, Expression>()] as const;
    for (const [a, b] of moving) {
      const expression = express(names, [first, a], [second, b]);
      for (const [k, number] of [a, b].entries()) {
        const known = expressions[k]!.get(number);
        if (known && JSON.stringify(known) !== JSON.stringify(expression)) throw unclear(a, b);
        expressions[k]!.set(number, expression);
      }
    }
    return graphs.map((graph, k) => ({ graph, expressions: expressions[k]! as Expressions }));
  }
  throw new Error("internal: the model's own sizes are the primes used for symbolic sizes");
}

const unclear = (a: number, b: number) =>
  new Error(
    `internal: ${a} (${b} at other sizes) isn't a product of sizes: this function can't be traced for all sizes`,
  );

/** All pairs of corresponding numbers of two graphs with the same structure. */
function compare(first: Graph, second: Graph): [number, number][] {
  const pairs: [number, number][] = [];
  const walk = (a: unknown, b: unknown): void => {
    if (typeof a === "number" && typeof b === "number") pairs.push([a, b]);
    else if (typeof a === "object" && typeof b === "object" && a !== null && b !== null) {
      const keys = Object.keys(a);
      if (keys.length !== Object.keys(b).length) throw unlike();
      for (const key of keys) walk((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]);
    } else if (a !== b) throw unlike();
  };
  walk(facts(first), facts(second));
  return pairs;
}

const unlike = () => new Error("internal: the function's operations depend on the sizes: it can't be one graph");

/** A graph's content, without the numbers that only name its values. */
function facts(graph: Graph): unknown {
  const shapes = (values: Iterable<{ shape: readonly number[]; dtype: string }>) =>
    [...values].map(({ shape, dtype }) => [shape, dtype]);
  return [
    [...graph.inputs.keys()],
    shapes(graph.inputs.values()),
    shapes(graph.constants.keys()),
    graph.nodes.map(({ kernel, attrs, inputs, outputs }) => {
      const numbers = kernel === "Fused" ? [attrs.kernel.name, attrs.attrs] : attrs;
      return [kernel, numbers, shapes(inputs), shapes(outputs)];
    }),
    [...graph.outputs.keys()],
  ];
}

/** The product that equals `a` at the first sizes and `b` at the second, with as few terms as possible. */
function express(names: readonly string[], [first, a]: [SizeValues, number], [second, b]: [SizeValues, number]) {
  const sums = names.flatMap((name, i) => [[name], ...names.slice(i + 1).map((other) => [name, other])]);
  const product = (terms: string[][], sizes: SizeValues) => evaluate({ factor: 1, terms }, sizes);
  for (const terms of choices(sums, 3)) {
    const factor = a / product(terms, first);
    if (Number.isInteger(factor) && factor * product(terms, second) === b) return { factor, terms };
  }
  throw unclear(a, b);
}

/** All multisets of 1 to `most` of the items, small ones first. */
function choices<T>(items: readonly T[], most: number): T[][] {
  const grow = (some: T[][]) =>
    some.flatMap((chosen) => items.slice(items.indexOf(chosen.at(-1)!)).map((item) => [...chosen, item]));
  const bySize = [items.map((item) => [item])];
  while (bySize.length < most) bySize.push(grow(bySize.at(-1)!));
  return bySize.flat();
}

/** The value of an expression at some sizes. */
export function evaluate({ factor, terms }: Expression, sizes: SizeValues): number {
  const sumOf = (term: string[]) => term.reduce((sum, name) => sum + sizes[name]!, 0);
  return terms.reduce((product, term) => product * sumOf(term), factor);
}
